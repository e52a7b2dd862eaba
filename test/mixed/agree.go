package mixed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Agree compares the members that run with one another: revision, hash of all keys, leases, members, alarms, versions.
func (c *Cluster) Agree(ctx context.Context) error {
	if err := c.settle(ctx); err != nil {
		return err
	}
	for _, q := range questions {
		if c.skip != nil && c.skip.MatchString(q.name) {
			continue
		}
		var want string
		for i, m := range c.running() {
			got, err := q.ask(ctx, m)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", q.name, m, err)
			}
			if i == 0 {
				want = got
			} else if got != want {
				return fmt.Errorf("the %s of %s and of %s differ:\n%s\n%s", q.name, c.running()[0], m, want, got)
			}
		}
	}
	return nil
}

// Healthy compares the members and sees that there is no alarm.
func (c *Cluster) Healthy(ctx context.Context) error {
	if err := c.Agree(ctx); err != nil {
		return err
	}
	r, err := pb.NewMaintenanceClient(c.running()[0].conn).Alarm(ctx, &pb.AlarmRequest{})
	if err == nil && len(r.Alarms) > 0 {
		err = fmt.Errorf("there are alarms: %v", r.Alarms)
	}
	return err
}

// A question has the same answer on every member that has applied the same entries.
type question struct {
	name string
	ask  func(ctx context.Context, m *Member) (string, error)
}

var questions = []question{
	{"alarms", func(ctx context.Context, m *Member) (string, error) {
		r, err := pb.NewMaintenanceClient(m.conn).Alarm(ctx, &pb.AlarmRequest{})
		if err != nil {
			return "", err
		}
		slices.SortFunc(r.Alarms, func(a, b *pb.AlarmMember) int {
			return cmp.Or(cmp.Compare(a.MemberID, b.MemberID), cmp.Compare(a.Alarm, b.Alarm))
		})
		return text(&pb.AlarmResponse{Alarms: r.Alarms}), nil
	}},
	{"hash", func(ctx context.Context, m *Member) (string, error) {
		s, err := m.status(ctx)
		if err != nil {
			return "", err
		}
		revision := s.Header.Revision
		// Of the compacted revision members remember a hash, but not all of them: who came later computes another.
		if revision < 2 || m.compacted(ctx, revision-1) {
			return fmt.Sprint("revision ", revision), nil
		}
		// By number: for 0 etcd may answer with what it remembers of a compaction at 0.
		r, err := pb.NewMaintenanceClient(m.conn).HashKV(ctx, &pb.HashKVRequest{Revision: revision})
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("revision %d, compacted %d, hash %08x", r.HashRevision, r.CompactRevision, r.Hash), nil
	}},
	{"leases", func(ctx context.Context, m *Member) (string, error) {
		r, err := pb.NewLeaseClient(m.conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		if err != nil {
			return "", err
		}
		slices.SortFunc(r.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
		return text(&pb.LeaseLeasesResponse{Leases: r.Leases}), nil
	}},
	{"keys of leases", func(ctx context.Context, m *Member) (string, error) {
		r, err := pb.NewLeaseClient(m.conn).LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
		if err != nil {
			return "", err
		}
		var lines []string
		for _, l := range r.Leases {
			ttl, err := pb.NewLeaseClient(m.conn).LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: l.ID, Keys: true})
			if err != nil {
				return "", err
			}
			slices.SortFunc(ttl.Keys, slices.Compare)
			lines = append(lines, fmt.Sprintf("%d granted %d keys %q", ttl.ID, ttl.GrantedTTL, ttl.Keys))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n"), nil
	}},
	{"member list", func(ctx context.Context, m *Member) (string, error) {
		r, err := pb.NewClusterClient(m.conn).MemberList(ctx, &pb.MemberListRequest{})
		if err != nil {
			return "", err
		}
		return text(&pb.MemberListResponse{Members: r.Members}), nil
	}},
	{"status", func(ctx context.Context, m *Member) (string, error) {
		r, err := m.status(ctx)
		if err != nil {
			return "", err
		}
		for i, e := range r.Errors { // protobuf's text form has one blank or two, from build to build
			r.Errors[i] = strings.Join(strings.Fields(e), " ")
		}
		slices.Sort(r.Errors)
		// Sizes are the members' own; the version of the storage is looked after by each member by itself.
		return text(&pb.StatusResponse{Header: &pb.ResponseHeader{ClusterId: r.Header.ClusterId, Revision: r.Header.Revision,
			RaftTerm: r.Header.RaftTerm}, Version: r.Version, Leader: r.Leader, RaftTerm: r.RaftTerm, Errors: r.Errors,
			DowngradeInfo: r.DowngradeInfo}), nil
	}},
	{"users", askUsers},
	{"version for clients", clientVersion},
	{"version for members", ask((*Member).url, "/version")},
	{"members for members", ask((*Member).url, "/members")},
}

// clientVersion is what a member tells clients of its versions.
var clientVersion = ask(func(m *Member) string { return "http://" + m.Client }, "/version")

// storageVersion is what each member looks after by itself: an etcd that has just come says 3.5.0 for some seconds.
var storageVersion = regexp.MustCompile(`"storage":"[0-9.]+"`)

// ask is a question over HTTP.
func ask(base func(*Member) string, path string) func(ctx context.Context, m *Member) (string, error) {
	return func(ctx context.Context, m *Member) (string, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base(m)+path, nil)
		if err != nil {
			return "", err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return "", err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		body = storageVersion.ReplaceAll(body, []byte(`"storage":"its own"`))
		return fmt.Sprintf("%d %s %s\n%s", response.StatusCode, response.Header.Get("Content-Type"),
			response.Header.Get("X-Etcd-Cluster-Id"), body), err
	}
}

// askUsers tells what a member holds of users and roles. Authentication must be off.
func askUsers(ctx context.Context, m *Member) (string, error) {
	a := pb.NewAuthClient(m.conn)
	now, err := a.AuthStatus(ctx, &pb.AuthStatusRequest{})
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("on: %v, revision %d\n", now.Enabled, now.AuthRevision)
	users, err := a.UserList(ctx, &pb.AuthUserListRequest{})
	if err != nil {
		return "", err
	}
	for _, name := range users.Users {
		u, err := a.UserGet(ctx, &pb.AuthUserGetRequest{Name: name})
		if err != nil {
			return "", err
		}
		out += fmt.Sprintf("user %s: %v\n", name, u.Roles)
	}
	roles, err := a.RoleList(ctx, &pb.AuthRoleListRequest{})
	if err != nil {
		return "", err
	}
	for _, name := range roles.Roles {
		r, err := a.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: name})
		if err != nil {
			return "", err
		}
		out += fmt.Sprintf("role %s:\n", name)
		for _, p := range r.Perm {
			out += "  " + text(p)
		}
	}
	return out, nil
}

// compacted says whether a member keeps nothing of a revision any more.
func (m *Member) compacted(ctx context.Context, revision int64) bool {
	_, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}, Revision: revision, Serializable: true})
	return status.Code(err) == codes.OutOfRange
}

// text writes a message so that equal ones are written equally within a process.
func text(m proto.Message) string { return prototext.MarshalOptions{Multiline: true}.Format(m) }

// Compared lets a member of each kind lead until it has compared the hashes of all members.
func (c *Cluster) Compared(ctx context.Context) error {
	for _, k := range []Kind{Etcd, Holdfast} {
		at := slices.IndexFunc(c.running(), func(m *Member) bool { return m.Kind == k })
		if at < 0 {
			continue
		}
		if err := c.MoveLeader(ctx, c.running()[at]); err != nil {
			return err
		}
		err := c.await(ctx, fmt.Sprintf("%s to compare hashes as a leader", k), func() error {
			compared, err := c.Checked()
			if err == nil && compared[k] == 0 {
				err = errors.New("none was compared")
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// What members log about the hashes they compare, as leaders, and about raft data they cannot use.
const (
	comparedAll  = "successfully checked hash on whole cluster"
	comparedSome = "finished peer corruption check"
)

// complaints are words in etcd's log that name a fault of another member.
var complaints = []string{
	"found hash mismatch", "hashes must match", "must be less than or equal to leader's", "Detected compaction hash mismatch",
	"failed to unmarshal", "panic",
}

// Checked reads the logs of all members, those removed included: no etcd may complain of another, and the numbers are those
// of comparisons of hashes with all members, by the kind of the leader that made them.
func (c *Cluster) Checked() (compared [2]int, err error) {
	for _, m := range append(slices.Clone(c.gone), c.Members...) {
		log, err := os.ReadFile(m.Log)
		if err != nil {
			return compared, fmt.Errorf("read the log of %s: %w", m, err)
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, comparedAll) || strings.Contains(line, comparedSome) && strings.Contains(line, `"number-of-peers-checked":2`) {
				compared[m.Kind]++
			}
			for _, word := range complaints {
				if m.Kind == Etcd && strings.Contains(line, word) {
					return compared, fmt.Errorf("%s complains: %s", m, line)
				}
			}
		}
	}
	return compared, nil
}
