package proxy

import (
	"context"
	"errors"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// leaseService renews the leases of all clients over a few streams: one for each token, and for each wish for a leader. A renewal
// goes out when a client asks for it, so that a lease lives exactly as long as its client wants; clients that ask for the same
// lease while an answer is awaited share it.
type leaseService struct {
	pb.UnimplementedLeaseServer
	*Proxy
}

// LeaseTimeToLive implements pb.LeaseServer. A namespace hides the keys of others.
func (s *leaseService) LeaseTimeToLive(ctx context.Context, q *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	var opts []clientv3.LeaseOption
	if q.Keys {
		opts = append(opts, clientv3.WithAttachedKeys())
	}
	r, err := s.client.TimeToLive(outgoing(ctx), clientv3.LeaseID(q.ID), opts...)
	if err != nil {
		return nil, asStatus(err)
	}
	return &pb.LeaseTimeToLiveResponse{Header: r.ResponseHeader, ID: int64(r.ID), TTL: r.TTL, GrantedTTL: r.GrantedTTL, Keys: r.Keys}, nil
}

// LeaseKeepAlive implements pb.LeaseServer.
func (s *leaseService) LeaseKeepAlive(stream pb.Lease_LeaseKeepAliveServer) error {
	who := behalf(stream.Context())
	r := s.renewals.join(s.ctx, s.conn, who)
	defer s.renewals.leave(who, r)
	for {
		q, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer, err := r.renew(stream.Context(), q.ID)
		if err != nil {
			return err
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// renewals are the streams to the cluster.
type renewals struct {
	mu    sync.Mutex // guards the field below and the users of all
	by    map[identity]*renewer
	ended sync.WaitGroup
}

func newRenewals() *renewals { return &renewals{by: map[identity]*renewer{}} }

// join gives the stream of an identity, opening it for the first user.
func (s *renewals) join(ctx context.Context, conn grpc.ClientConnInterface, who identity) *renewer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.by[who]; r != nil {
		r.users++
		return r
	}
	r := &renewer{flights: map[int64]*flight{}, users: 1, send: make(chan int64)}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	s.by[who] = r
	s.ended.Go(func() { // ends with the last user, or with the stream
		err := r.run(conn, who)
		r.cancel(err)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.by[who] == r {
			delete(s.by, who) // who comes next gets another
		}
	})
	return r
}

func (s *renewals) leave(who identity, r *renewer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r.users--
	if r.users > 0 {
		return
	}
	r.cancel(nil)
	if s.by[who] == r {
		delete(s.by, who)
	}
}

// streams is how many there are.
func (s *renewals) streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by)
}

// renewer is one stream to the cluster.
type renewer struct {
	ctx    context.Context // ends with the stream; its cause says why
	cancel context.CancelCauseFunc
	users  int        // renewals.mu guards it
	send   chan int64 // unbuffered

	mu      sync.Mutex // guards the field below
	flights map[int64]*flight
}

// flight is a renewal under way.
type flight struct {
	done   chan struct{} // closed when there is an answer
	answer *pb.LeaseKeepAliveResponse
}

// run carries renewals until the stream ends, and returns why.
func (r *renewer) run(conn grpc.ClientConnInterface, who identity) error {
	ctx, cancel := context.WithCancel(outgoingAs(r.ctx, who))
	defer cancel()
	stream, err := pb.NewLeaseClient(conn).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		defer cancel()
		for {
			select {
			case id := <-r.send:
				if stream.Send(&pb.LeaseKeepAliveRequest{ID: id}) != nil {
					return // receiving says why
				}
			case <-ctx.Done():
				return
			}
		}
	})
	defer cancel()
	for {
		answer, err := stream.Recv()
		if err != nil {
			return err
		}
		r.land(answer)
	}
}

// land gives an answer to those who wait for it.
func (r *renewer) land(answer *pb.LeaseKeepAliveResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[answer.ID]; f != nil {
		f.answer = answer
		close(f.done)
		delete(r.flights, answer.ID)
	}
}

// renew renews a lease.
func (r *renewer) renew(ctx context.Context, id int64) (*pb.LeaseKeepAliveResponse, error) {
	r.mu.Lock()
	f := r.flights[id]
	if f != nil {
		r.mu.Unlock()
		return r.await(ctx, f)
	}
	f = &flight{done: make(chan struct{})}
	r.flights[id] = f
	r.mu.Unlock()
	select {
	case r.send <- id:
	case <-r.ctx.Done():
	}
	return r.await(ctx, f)
}

func (r *renewer) await(ctx context.Context, f *flight) (*pb.LeaseKeepAliveResponse, error) {
	select {
	case <-f.done:
		return f.answer, nil
	case <-r.ctx.Done():
		return nil, context.Cause(r.ctx)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
