package sim

import (
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/apply"
	"holdfast/auth"
	"holdfast/kv"
	"holdfast/token"
)

// In every third seed clients have users: they log in and out with the log, an administrator changes who may do what all the time, and
// every permission and refusal is held against the model at the same place of the log.

const (
	usersPerRun   = 4
	rolesPerRun   = 3
	adminThinkMax = 600 * time.Millisecond
	// tokenPrefix is how long the part of a token is that a member draws.
	tokenPrefix = 16
)

// usersSeen is what must have happened in a long run.
var usersSeen = []string{"logins", "changes of users", "decisions over reads", "reads refused", "reads without a login"}

func hasUsers(seed uint64) bool { return seed%3 == 0 }

// tokensOf is what a member knows of who is logged in; it stands for package login.
type tokensOf struct{ *token.Simple }

// Switched implements apply.Tokens.
func (t tokensOf) Switched(bool) { t.Clear() }

// Authenticated implements apply.Tokens.
func (t tokensOf) Authenticated(user, prefix string, index kv.Index) {
	if _, err := t.Grant(user, prefix, uint64(index)); err != nil {
		panic(err)
	}
}

// Forget implements apply.Tokens.
func (t tokensOf) Forget(user string) { t.DropUser(user) }

// Changed implements apply.Tokens.
func (tokensOf) Changed(string) {}

// asRoot is how a member names a request that it makes for itself.
func (l *life) asRoot(id uint64) kv.CommandHeader {
	if state := l.auth.State(); state.Enabled() {
		return kv.CommandHeader{ID: id, Username: auth.Root, AuthRevision: state.Revision()}
	}
	return kv.CommandHeader{ID: id}
}

// identify is who a client is to a member; known is false for one whose token the member does not know, while that matters.
func (c *client) identify(l *life) (user string, revision uint64, known bool) {
	state := l.auth.State()
	c.w.judge.usersAt(l)
	if c.user == "" || !state.Enabled() {
		return "", 0, true
	}
	user, known = l.tokens.Find(c.token)
	if !known {
		return "", 0, false
	}
	c.w.judge.loggedIn(l, c.token, user)
	revision = state.Revision()
	if revision > 1 && c.w.chance(3) {
		revision-- // as in a token that is signed
	}
	return user, revision, true
}

// mayRead decides over a read as a member does, and has the judge decide, too.
func (c *client) mayRead(l *life, o *op, q ...*kv.RangeRequest) bool {
	if c.user == "" {
		return true
	}
	user, revision, known := c.identify(l)
	if !known {
		c.w.counts["reads without a login"]++
		c.token = ""
		return false
	}
	var wants []kv.Access
	for _, one := range q {
		wants = one.Accesses(wants)
	}
	err := l.auth.State().Check(user, revision, wants)
	c.w.judge.decided(l, o, user, revision, wants, err)
	if err != nil {
		c.w.counts["reads refused"]++
		c.w.note("client %d may not read at %s: %v", c.id, l.member, err)
	}
	return err == nil
}

// login asks a member for a token.
func (c *client) login(l *life) {
	w := c.w
	o := &op{id: uint64(w.moment())<<1 | 1, client: c.id, member: l.member, call: w.moment()}
	prefix := strings.Repeat("t", tokenPrefix-8) + fmt.Sprintf("%08d", w.moment()%1e8)
	var err error
	o.payload, err = kv.EncodeCold(kv.CommandHeader{ID: o.id}, &pb.InternalRaftRequest{Authenticate: &pb.InternalAuthenticateRequest{Name: c.user, SimpleToken: prefix}})
	if err != nil {
		panic(err)
	}
	w.note("client %d logs in as %s at %s, request %x", c.id, c.user, l.member, o.id)
	w.judge.began(o)
	l.propose(o.id, o.payload, requestTimeout, func(r *apply.Result, err error) {
		if err == nil && r.Err == nil {
			w.counts["logins"]++
			c.token = fmt.Sprintf("%s.%d", prefix, apply.TokenIndex(kv.Index(w.judge.places[o.id])))
		}
		c.answered(o, r, err)
	})
}

// administrator founds users and roles and changes them, known by a certificate.
type administrator struct {
	w  *world
	id int
}

func (a *administrator) think() { a.w.after(a.w.between(0, adminThinkMax), a.next) }

func (a *administrator) next() {
	w := a.w
	if w.now > faultyTime+calmTime/3 {
		return
	}
	m := w.members[w.rnd.IntN(len(w.members))]
	if !m.serves() || m.pausedUntil > w.now {
		a.think()
		return
	}
	o := &op{id: uint64(w.moment())<<1 | 1, client: a.id, member: m, call: w.moment()}
	change := a.change()
	var err error
	if o.payload, err = kv.EncodeCold(m.life.asRoot(o.id), change); err != nil {
		panic(err)
	}
	w.note("the administrator asks %s, request %x", m, o.id)
	w.judge.began(o)
	m.life.propose(o.id, o.payload, requestTimeout, func(r *apply.Result, err error) {
		switch {
		case err == errRefused:
			w.judge.refused(o)
		case err == nil:
			w.counts["changes of users"]++
			o.answer, o.got = w.moment(), showResult(r)
			w.judge.acknowledged(o)
			w.note("the administrator has request %x: %v", o.id, o.got)
		}
		a.think()
	})
}

func userName(i int) string { return fmt.Sprintf("u%d", i) }
func roleName(i int) string { return fmt.Sprintf("r%d", i) }

// change draws what to change: first what is missing, so that what was deleted comes back.
func (a *administrator) change() *pb.InternalRaftRequest {
	u, rnd := a.w.judge.now.users, a.w.rnd
	for i := range rolesPerRun {
		if _, is := u.roles[roleName(i)]; !is {
			return &pb.InternalRaftRequest{AuthRoleAdd: &pb.AuthRoleAddRequest{Name: roleName(i)}}
		}
	}
	for i := range usersPerRun + 1 {
		name := userName(i)
		if i == usersPerRun {
			name = auth.Root
		}
		if _, is := u.of[name]; !is {
			return &pb.InternalRaftRequest{AuthUserAdd: &pb.AuthUserAddRequest{Name: name, HashedPassword: "aGFzaA==", Options: &authpb.UserAddOptions{}}}
		}
	}
	if !u.isRoot(auth.Root) {
		return &pb.InternalRaftRequest{AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: auth.Root, Role: auth.Root}}
	}
	if !u.enabled && a.w.chance(70) {
		return &pb.InternalRaftRequest{AuthEnable: &pb.AuthEnableRequest{}}
	}
	user, role := userName(rnd.IntN(usersPerRun)), roleName(rnd.IntN(rolesPerRun))
	switch p := rnd.IntN(100); {
	case p < 45:
		return a.grant(role)
	case p < 60:
		return a.revoke(role)
	case p < 80:
		return &pb.InternalRaftRequest{AuthUserGrantRole: &pb.AuthUserGrantRoleRequest{User: user, Role: role}}
	case p < 90:
		return &pb.InternalRaftRequest{AuthUserRevokeRole: &pb.AuthUserRevokeRoleRequest{Name: user, Role: role}}
	case p < 94:
		return &pb.InternalRaftRequest{AuthUserChangePassword: &pb.AuthUserChangePasswordRequest{Name: user, HashedPassword: "aGFzaA=="}}
	case p < 97:
		return &pb.InternalRaftRequest{AuthUserDelete: &pb.AuthUserDeleteRequest{Name: user}}
	}
	return &pb.InternalRaftRequest{AuthDisable: &pb.AuthDisableRequest{}}
}

// ends is where permissions end that begin at each key: one for each, see users.grantPermission.
var ends = map[string]string{"k": "l", "k00": "k08", "k06": "k12", "k12": "l", "k03": "", "k09": ""}

func (a *administrator) grant(role string) *pb.InternalRaftRequest {
	key := sortedKeys(ends)[a.w.rnd.IntN(len(ends))]
	if a.w.chance(40) {
		key = "k"
	}
	kind := []authpb.Permission_Type{authpb.Permission_READWRITE, authpb.Permission_READWRITE, authpb.Permission_READ, authpb.Permission_WRITE}[a.w.rnd.IntN(4)]
	return &pb.InternalRaftRequest{AuthRoleGrantPermission: &pb.AuthRoleGrantPermissionRequest{
		Name: role, Perm: &authpb.Permission{Key: []byte(key), RangeEnd: []byte(ends[key]), PermType: kind}}}
}

func (a *administrator) revoke(role string) *pb.InternalRaftRequest {
	key := sortedKeys(ends)[a.w.rnd.IntN(len(ends))]
	return &pb.InternalRaftRequest{AuthRoleRevokePermission: &pb.AuthRoleRevokePermissionRequest{Role: role, Key: []byte(key), RangeEnd: []byte(ends[key])}}
}

// usersAt is the model's users where a member is in the log. The member must hold the same.
func (j *judge) usersAt(l *life) *users {
	u, state := j.permits[l.appliedIndex], l.auth.State()
	if u.enabled != state.Enabled() || u.revision != state.Revision() {
		j.w.fail("%s has applied %d entries and holds users %s, the model has %s", l.member, l.appliedIndex, showUsers(state), u)
	}
	return u
}

// loggedIn asks that a member which knows a token is right about it.
func (j *judge) loggedIn(l *life, text, user string) {
	prefix, _, _ := strings.Cut(text, ".")
	if want := j.usersAt(l).logins[prefix]; want != user {
		j.w.fail("%s takes the token %s for that of %q, to the model it is that of %q", l.member, text, user, want)
	}
}

// decided asks that a member decides over a read as the model does, and not by users that were changed before the read was asked for.
func (j *judge) decided(l *life, o *op, user string, revision uint64, wants []kv.Access, got error) {
	if want := j.usersAt(l).permit(user, revision, wants); got != want {
		j.w.fail("%v by %q is decided on with %v, by the model with %v; users: %s", o, user, got, want, j.usersAt(l))
	}
	if o.sees && l.appliedIndex < uint64(o.after) {
		j.w.fail("%v is decided on at entry %d, and entry %d was acknowledged before it was asked", o, l.appliedIndex, o.after)
	}
	j.w.counts["decisions over reads"]++
}

// acknowledged hears that a client knows of a command's end.
func (j *judge) acknowledged(o *op) { j.known = max(j.known, j.places[o.id]) }
