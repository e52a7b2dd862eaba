package mixed

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// TestStorm lets a client write and read through each member while leadership moves from kind to kind, one member is killed
// and comes back. What a call that failed did is not known; everything else is: a client's own key holds its last acknowledged
// value or one tried later, on every member, and the watches on all members see the same events.
func TestStorm(t *testing.T) {
	if testing.Short() {
		t.Skip("starts clusters")
	}
	for _, kinds := range [][]Kind{{Etcd, Holdfast, Etcd}, {Holdfast, Etcd, Holdfast}} {
		t.Run(fmt.Sprint(kinds), func(t *testing.T) {
			cluster := open(t, kinds)
			if err := cluster.storm(t.Context(), t); err != nil {
				t.Fatalf("%v\nlogs are kept in %s", err, keepLogs(t, cluster))
			}
		})
	}
}

// open starts a cluster for the length of a test; extra flags come last and so win.
func open(t *testing.T, kinds []Kind, extra ...string) *Cluster {
	t.Helper()
	flags := append([]string{fmt.Sprintf("--election-timeout=%d", electionMillis),
		fmt.Sprintf("--heartbeat-interval=%d", electionMillis/10)}, append(slices.Clone(members), extra...)...)
	cluster, err := Open(t.Context(), t.TempDir(), binaries(t), flags, kinds...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// stormClients is how many clients work through each member.
const stormClients = 2

func (c *Cluster) storm(ctx context.Context, t *testing.T) error {
	working, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	var clients []*stormClient
	for i := range stormClients * len(c.Members) {
		s := &stormClient{member: c.Members[i%len(c.Members)], key: fmt.Appendf(nil, "storm/%d", i)}
		clients = append(clients, s)
		work.Go(func() { s.run(working) })
	}
	disturbed := c.disturbStorm(ctx)
	stop()
	work.Wait()
	if disturbed != nil {
		return disturbed
	}
	if err := c.Healthy(ctx); err != nil {
		return err
	}
	done, failed := 0, 0
	for _, s := range clients {
		done, failed = done+s.done, failed+s.failed
		if s.wrong != nil {
			return s.wrong
		}
		for _, m := range c.Members {
			if err := s.check(ctx, m); err != nil {
				return err
			}
		}
	}
	t.Logf("%d calls answered, %d not", done, failed)
	if done < 1000 {
		return fmt.Errorf("only %d calls were answered", done)
	}
	return c.sameHistories(ctx)
}

// disturbStorm moves leadership around and lets each member be killed once.
func (c *Cluster) disturbStorm(ctx context.Context) error {
	for _, m := range c.Members {
		for _, to := range c.Members {
			if err := c.MoveLeaderUnderLoad(ctx, to); err != nil {
				return err
			}
		}
		m.Kill()
		time.Sleep(electionMillis * time.Millisecond)
		if err := m.Launch(); err != nil {
			return err
		}
		if err := c.await(ctx, fmt.Sprintf("%s to serve", m), func() error { return m.serves(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

// MoveLeaderUnderLoad moves leadership while the log grows, so that members never agree on its end.
func (c *Cluster) MoveLeaderUnderLoad(ctx context.Context, to *Member) error {
	return c.await(ctx, fmt.Sprintf("leadership to come to %s", to), func() error {
		r, err := to.status(ctx)
		if err != nil || r.Leader == to.ID {
			return err
		}
		for _, from := range c.running() {
			if from.ID == r.Leader {
				_, err = pb.NewMaintenanceClient(from.conn).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: to.ID})
			}
		}
		if err == nil {
			err = fmt.Errorf("%x leads", r.Leader)
		}
		return err
	})
}

// serves asks a member for a linearizable read.
func (m *Member) serves(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: []byte{0}})
	return err
}

// A stormClient counts its key up through one member and reads it back.
type stormClient struct {
	member *Member
	key    []byte

	acked, tried int // the last value acknowledged and the last one sent
	done, failed int
	wrong        error
}

func (s *stormClient) run(ctx context.Context) {
	for ctx.Err() == nil && s.wrong == nil {
		call, cancel := context.WithTimeout(ctx, 2*time.Second)
		s.tried++
		put := &pb.PutRequest{Key: s.key, Value: strconv.AppendInt(nil, int64(s.tried), 10)}
		_, err := pb.NewKVClient(s.member.conn).Put(call, put)
		cancel()
		if err != nil {
			s.failed++
			time.Sleep(20 * time.Millisecond)
			continue
		}
		s.done++
		s.acked = s.tried
		if err := s.check(ctx, s.member); err != nil && ctx.Err() == nil {
			s.wrong = err
		}
	}
}

// check reads the key on a member; what cannot be read is not wrong.
func (s *stormClient) check(ctx context.Context, m *Member) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := pb.NewKVClient(m.conn).Range(ctx, &pb.RangeRequest{Key: s.key})
	if err != nil {
		s.failed++
		return nil
	}
	s.done++
	got := 0
	if len(r.Kvs) == 1 {
		if got, err = strconv.Atoi(string(r.Kvs[0].Value)); err != nil {
			return fmt.Errorf("key %s on %s: %w", s.key, m, err)
		}
	}
	if got < s.acked || got > s.tried {
		return fmt.Errorf("key %s on %s is %d, %d was acknowledged and %d tried last", s.key, m, got, s.acked, s.tried)
	}
	return nil
}

// sameHistories watches everything from the first revision on each member and compares the events.
func (c *Cluster) sameHistories(ctx context.Context) error {
	s, err := c.Members[0].status(ctx)
	if err != nil {
		return err
	}
	var want []*mvccpb.Event
	for i, m := range c.Members {
		got, err := m.history(ctx, s.Header.Revision)
		if err != nil {
			return fmt.Errorf("watch everything on %s: %w", m, err)
		}
		if i == 0 {
			want = got
		}
		if len(got) != len(want) {
			return fmt.Errorf("%s delivers %d events, %s %d", c.Members[0], len(want), m, len(got))
		}
		for n := range got {
			if text(got[n]) != text(want[n]) {
				return fmt.Errorf("event %d is on %s\n%s\nand on %s\n%s", n, c.Members[0], text(want[n]), m, text(got[n]))
			}
		}
	}
	return nil
}

// history returns all events up to a revision.
func (m *Member) history(ctx context.Context, until int64) ([]*mvccpb.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	w, err := pb.NewWatchClient(m.conn).Watch(ctx)
	if err != nil {
		return nil, err
	}
	all := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: 1}
	if err := w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: all}}); err != nil {
		return nil, err
	}
	var events []*mvccpb.Event
	for len(events) == 0 || events[len(events)-1].Kv.ModRevision < until {
		r, err := w.Recv()
		if err != nil {
			return nil, err
		}
		events = append(events, r.Events...)
	}
	return events, nil
}
