package clients

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"holdfast/api/lockpb"
	"holdfast/test/etcd"
)

// TestLockAndElection runs one script of locks and elections against etcd and against the server: every answer, error and
// observed leader must be the same.
func TestLockAndElection(t *testing.T) {
	want := lockScript(t, serve(t, etcd.Binary(t, "etcd")).Client)
	got := lockScript(t, serve(t, binary(t)).Client)
	if want != got {
		t.Errorf("etcd:\n%s\nthe server:\n%s", want, got)
	}
	for _, sign := range []string{"mutex: session is expired", "election: no leader", "election: not leader", "DeadlineExceeded", "lease not found", "permission denied"} {
		if !strings.Contains(want, sign) {
			t.Errorf("the script has not met %q:\n%s", sign, want)
		}
	}
}

// lockClient calls one server and writes down what comes back.
type lockClient struct {
	t    *testing.T
	conn *grpc.ClientConn
	log  strings.Builder
}

// answered is what came back for a call.
type answered struct {
	message proto.Message
	err     error
}

func (c *lockClient) call(ctx context.Context, method string, q, a proto.Message) answered {
	err := c.conn.Invoke(ctx, "/"+method, q, a)
	return answered{a, err}
}

// start begins a call that is expected to wait.
func (c *lockClient) start(ctx context.Context, method string, q, a proto.Message) <-chan answered {
	done := make(chan answered, 1)
	go func() { done <- c.call(ctx, method, q, a) }()
	return done
}

func (c *lockClient) write(step string, a answered) {
	if a.err != nil {
		s := status.Convert(a.err)
		text := s.Message()
		if s.Code() == codes.DeadlineExceeded {
			text = "" // the client's own, or the server's, whichever clock is first
		}
		fmt.Fprintf(&c.log, "%s: %v %q\n", step, s.Code(), text)
		return
	}
	maskIDs(a.message.ProtoReflect())
	fmt.Fprintf(&c.log, "%s: %v\n", step, strings.Join(strings.Fields(fmt.Sprint(a.message)), " ")) // the spaces are random
}

// maskIDs clears what differs from one cluster to the next.
func maskIDs(m protoreflect.Message) {
	if h := m.Descriptor().Fields().ByName("header"); h != nil {
		if header, is := m.Get(h).Message().Interface().(*pb.ResponseHeader); is && header != nil {
			header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
		}
	}
}

func (c *lockClient) do(step, method string, q, a proto.Message) {
	c.t.Helper()
	c.write(step, c.call(c.t.Context(), method, q, a))
}

// await waits for the end of a call that was started.
func (c *lockClient) await(step string, done <-chan answered) {
	c.t.Helper()
	select {
	case a := <-done:
		c.write(step, a)
	case <-time.After(30 * time.Second):
		c.t.Fatalf("%s: no answer", step)
	}
}

// exists waits until a key is there, or is not.
func (c *lockClient) exists(key string, there bool) {
	c.t.Helper()
	for range 3000 {
		r, err := pb.NewKVClient(c.conn).Range(c.t.Context(), &pb.RangeRequest{Key: []byte(key)})
		if err != nil {
			c.t.Fatal(err)
		}
		if (r.Count > 0) == there {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("key %s: waited in vain for its being there to be %v", key, there)
}

const (
	lockCall, unlockCall                         = "v3lockpb.Lock/Lock", "v3lockpb.Lock/Unlock"
	campaignCall, proclaimCall, resignCall       = "v3electionpb.Election/Campaign", "v3electionpb.Election/Proclaim", "v3electionpb.Election/Resign"
	leaderCall, observeCall                      = "v3electionpb.Election/Leader", "v3electionpb.Election/Observe"
	first, second                          int64 = 100, 200 // leases; their keys end in 64 and c8
)

func lockScript(t *testing.T, address string) string {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := &lockClient{t: t, conn: conn}
	for _, id := range []int64{first, second} {
		c.do("grant", "etcdserverpb.Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: id, TTL: 600}, new(pb.LeaseGrantResponse))
	}
	c.locks()
	c.elections()
	c.users()
	return c.log.String()
}

// users locks and leads with the rights of a user, of nobody, and with a token that is none.
func (c *lockClient) users() {
	ctx := c.t.Context()
	must := func(_ any, err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	auth := pb.NewAuthClient(c.conn)
	for _, user := range []string{"root", "alice"} {
		must(auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: user, Password: "pw"}))
		must(auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: user}))
		must(auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: user, Role: user}))
	}
	must(auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "alice", Perm: &authpb.Permission{
		PermType: authpb.READWRITE, Key: []byte("p/"), RangeEnd: []byte("p0"),
	}}))
	must(auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
	with := func(token string) context.Context { return metadata.AppendToOutgoingContext(ctx, "token", token) }
	as := func(user string) context.Context {
		r, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: user, Password: "pw"})
		must(r, err)
		return with(r.Token)
	}
	alice := as("alice")
	c.write("nobody locks", c.call(ctx, lockCall, &lockpb.LockRequest{Name: []byte("p"), Lease: first}, new(lockpb.LockResponse)))
	c.write("a stranger locks", c.call(with("none.1"), lockCall, &lockpb.LockRequest{Name: []byte("p"), Lease: first}, new(lockpb.LockResponse)))
	c.write("alice locks p", c.call(alice, lockCall, &lockpb.LockRequest{Name: []byte("p"), Lease: first}, new(lockpb.LockResponse)))
	c.write("alice locks x", c.call(alice, lockCall, &lockpb.LockRequest{Name: []byte("x"), Lease: first}, new(lockpb.LockResponse)))
	waits := c.start(alice, lockCall, &lockpb.LockRequest{Name: []byte("p"), Lease: second}, new(lockpb.LockResponse))
	for range 3000 {
		r, err := pb.NewKVClient(c.conn).Range(alice, &pb.RangeRequest{Key: []byte("p/c8")})
		must(r, err)
		if r.Count > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.write("alice unlocks p", c.call(alice, unlockCall, &lockpb.UnlockRequest{Key: []byte("p/64")}, new(lockpb.UnlockResponse)))
	c.await("alice has p", waits)
	c.write("alice unlocks x", c.call(alice, unlockCall, &lockpb.UnlockRequest{Key: []byte("x/64")}, new(lockpb.UnlockResponse)))
	c.write("alice asks who leads x", c.call(alice, leaderCall, &lockpb.LeaderRequest{Name: []byte("x")}, new(lockpb.LeaderResponse)))
	c.write("alice leads p", c.call(alice, campaignCall, &lockpb.CampaignRequest{Name: []byte("p"), Lease: second, Value: []byte("v")}, new(lockpb.CampaignResponse)))
	must(auth.AuthDisable(as("root"), &pb.AuthDisableRequest{}))
}

func (c *lockClient) lock(step string, name string, lease int64) {
	c.t.Helper()
	c.do(step, lockCall, &lockpb.LockRequest{Name: []byte(name), Lease: lease}, new(lockpb.LockResponse))
}

func (c *lockClient) unlock(step, key string) {
	c.t.Helper()
	c.do(step, unlockCall, &lockpb.UnlockRequest{Key: []byte(key)}, new(lockpb.UnlockResponse))
}

func (c *lockClient) locks() {
	ctx := c.t.Context()
	c.lock("lock a", "a", first)
	c.lock("lock a again", "a", first)
	waits := c.start(ctx, lockCall, &lockpb.LockRequest{Name: []byte("a"), Lease: second}, new(lockpb.LockResponse))
	c.exists("a/c8", true)
	c.unlock("unlock a", "a/64")
	c.await("second has a", waits)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	c.write("first gives up", c.call(short, lockCall, &lockpb.LockRequest{Name: []byte("a"), Lease: first}, new(lockpb.LockResponse)))
	cancel()
	c.exists("a/64", false)
	c.unlock("unlock a", "a/c8")
	c.unlock("unlock nothing", "a/c8")
	c.unlock("unlock without key", "")
	c.lock("lock with an unknown lease", "a", 999)
	c.lock("lock without a name", "", first)

	c.lock("lock b", "b", first)
	c.do("grant", "etcdserverpb.Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: 300, TTL: 600}, new(pb.LeaseGrantResponse))
	waits = c.start(ctx, lockCall, &lockpb.LockRequest{Name: []byte("b"), Lease: 300}, new(lockpb.LockResponse))
	c.exists("b/12c", true)
	c.do("revoke", "etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: 300}, new(pb.LeaseRevokeResponse))
	c.unlock("unlock b", "b/64")
	c.await("the one without a lease any more", waits)
	c.orphan()
}

// orphan locks without a lease: the server grants one of 60 s, whose id it draws.
func (c *lockClient) orphan() {
	var r lockpb.LockResponse
	if a := c.call(c.t.Context(), lockCall, &lockpb.LockRequest{Name: []byte("o")}, &r); a.err != nil {
		c.write("lock without a lease", a)
		return
	}
	var lease int64
	if n, err := fmt.Sscanf(string(bytes.TrimPrefix(r.Key, []byte("o/"))), "%x", &lease); n != 1 {
		c.t.Fatalf("key %q: %v", r.Key, err)
	}
	ttl := new(pb.LeaseTimeToLiveResponse)
	a := c.call(c.t.Context(), "etcdserverpb.Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: lease}, ttl)
	fmt.Fprintf(&c.log, "lock without a lease: revision %d, granted %d s, error %v\n", r.Header.Revision, ttl.GrantedTTL, a.err)
	c.do("revoke", "etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: lease}, new(pb.LeaseRevokeResponse))
}

func (c *lockClient) elections() {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	leader := func(step string) {
		c.do(step, leaderCall, &lockpb.LeaderRequest{Name: []byte("e")}, new(lockpb.LeaderResponse))
	}
	campaign := func(lease int64, value string) *lockpb.CampaignRequest {
		return &lockpb.CampaignRequest{Name: []byte("e"), Lease: lease, Value: []byte(value)}
	}
	leader("nobody leads")
	observed := c.observe(ctx)
	var won lockpb.CampaignResponse
	c.do("first leads", campaignCall, campaign(first, "v1"), &won)
	c.await("observed", observed)
	own := proto.Clone(won.Leader).(*lockpb.LeaderKey)
	leader("who leads")
	proclaim := func(step, value string) {
		c.do(step, proclaimCall, &lockpb.ProclaimRequest{Leader: own, Value: []byte(value)}, new(lockpb.ProclaimResponse))
	}
	proclaim("proclaim", "v2")
	c.await("observed", observed)
	c.do("first leads on", campaignCall, campaign(first, "v2"), new(lockpb.CampaignResponse))
	c.do("first leads on with another value", campaignCall, campaign(first, "v3"), new(lockpb.CampaignResponse))
	c.await("observed", observed)

	waits := c.start(ctx, campaignCall, campaign(second, "w"), new(lockpb.CampaignResponse))
	c.exists("e/c8", true)
	resign := func(step string) {
		c.do(step, resignCall, &lockpb.ResignRequest{Leader: own}, new(lockpb.ResignResponse))
	}
	resign("resign")
	c.await("second leads", waits)
	c.await("observed", observed)
	proclaim("proclaim of who does not lead", "v4")
	resign("resign of who does not lead")
	short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
	c.write("first gives up", c.call(short, campaignCall, campaign(first, "v5"), new(lockpb.CampaignResponse)))
	stop()
	c.exists("e/64", false)

	c.do("proclaim nothing", proclaimCall, new(lockpb.ProclaimRequest), new(lockpb.ProclaimResponse))
	c.do("resign nothing", resignCall, new(lockpb.ResignRequest), new(lockpb.ResignResponse))
	c.do("campaign with an unknown lease", campaignCall, campaign(999, "v"), new(lockpb.CampaignResponse))
	own = &lockpb.LeaderKey{Name: []byte("e"), Key: []byte("e/none"), Rev: 7, Lease: 999}
	proclaim("proclaim of an unknown key", "v")
	own = &lockpb.LeaderKey{Name: []byte("e"), Lease: first}
	proclaim("proclaim without a key", "v")
	leader("who leads")
	cancel()
	c.await("observing ends", observed)
}

// observe gives the leaders of election e one by one, and how the stream ended.
func (c *lockClient) observe(ctx context.Context) <-chan answered {
	stream, err := c.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+observeCall)
	if err == nil {
		err = stream.SendMsg(&lockpb.LeaderRequest{Name: []byte("e")})
	}
	if err == nil {
		err = stream.CloseSend()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	seen := make(chan answered)
	go func() {
		for {
			r := new(lockpb.LeaderResponse)
			err := stream.RecvMsg(r)
			select {
			case seen <- answered{r, err}:
			case <-c.t.Context().Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return seen
}

// TestLockAndElectionAsJSON does the same over HTTP: status, body and stream of every path.
func TestLockAndElectionAsJSON(t *testing.T) {
	want := jsonScript(t, serve(t, etcd.Binary(t, "etcd")).Client)
	got := jsonScript(t, serve(t, binary(t)).Client)
	if want != got {
		t.Errorf("etcd:\n%s\nthe server:\n%s", want, got)
	}
	if !strings.Contains(want, "no leader") || !strings.Contains(want, `{"result":{`) {
		t.Errorf("the script has not met what it is for:\n%s", want)
	}
}

// jsonScript posts one request after the other and writes down what comes back, without what differs from cluster to cluster.
func jsonScript(t *testing.T, address string) string {
	t.Helper()
	var log strings.Builder
	post := func(path, body string) *http.Response {
		r, err := http.Post("http://"+address+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	do := func(path, body string) {
		r := post(path, body)
		answer, err := io.ReadAll(r.Body)
		if closed := r.Body.Close(); err == nil {
			err = closed
		}
		fmt.Fprintf(&log, "%s %s: %d %s %s %v\n", path, body, r.StatusCode, r.Header.Get("Content-Type"), plainJSON(answer), err)
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	do("/v3/lease/grant", `{"ID":100,"TTL":600}`)
	do("/v3/lock/lock", `{"name":"`+b64("l")+`","lease":"100"}`)
	do("/v3/lock/unlock", `{"key":"`+b64("l/64")+`"}`)
	do("/v3/lock/unlock", ``)
	do("/v3/lock/unlock", `{"key":`)
	do("/v3/lock/lock", `{"name":"`+b64("l")+`","lease":"999","unknown":1}`)
	do("/v3/election/leader", `{"name":"`+b64("e")+`"}`)
	do("/v3/election/campaign", `{"name":"`+b64("e")+`","lease":100,"value":"`+b64("v")+`"}`)
	observed := post("/v3/election/observe", `{"name":"`+b64("e")+`"}`)
	defer func() { _ = observed.Body.Close() }() // nothing more is read
	leaders := bufio.NewReader(observed.Body)
	next := func() {
		line, err := leaders.ReadBytes('\n')
		fmt.Fprintf(&log, "observed: %d %s %v\n", observed.StatusCode, plainJSON(line), err)
	}
	next()
	leader := `{"name":"` + b64("e") + `","key":"` + b64("e/64") + `","rev":"4","lease":"100"}`
	do("/v3/election/proclaim", `{"leader":`+leader+`,"value":"`+b64("w")+`"}`)
	next()
	do("/v3/election/proclaim", `{}`)
	do("/v3/election/resign", `{"leader":`+leader+`}`)
	do("/v3/election/resign", `{}`)
	do("/v3/election/leader", `{"name":"`+b64("e")+`"}`)
	return log.String()
}

var (
	clusterIDs = regexp.MustCompile(`"(cluster_id|member_id|raft_term)": ?"[0-9]+", ?`)
	spaces     = regexp.MustCompile(`([,:]) `)
)

// plainJSON leaves out ids, and the spaces that protobuf puts in at random.
func plainJSON(b []byte) string {
	text := spaces.ReplaceAllString(strings.TrimSpace(string(b)), "$1")
	text = clusterIDs.ReplaceAllString(text, "")
	return regexp.MustCompile(`,?"raft_term":"[0-9]+"`).ReplaceAllString(text, "")
}
