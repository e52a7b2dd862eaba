package peer

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// RunDowngrade compares a downgrade that is begun and taken back, of two servers of their own. Behind an episode it cannot be: before
// etcd lowers the version of its files it reads its log again, and a request there with an enumeration's number that nobody knows, as
// episodes send, ends its process.
func RunDowngrade(ctx context.Context, cfg Config, tally *Tally) error {
	w := &world{
		differences: cfg.differences(),
		tally:       tally,
		settings:    settingsOf(0),
		current:     1,
		keys:        map[string]keyState{},

		versionKnown: true, // downgrade waits for versions itself
	}
	if err := w.open(ctx, cfg); err != nil {
		return err
	}
	defer w.close()
	return w.downgrade()
}

// downgrade begins a downgrade and takes it back. Between two calls both servers may look at their versions by themselves, so it is
// waited until both have done so.
func (w *world) downgrade() error {
	g := &gen{rng: newRand(0)}
	ask := func(action pb.DowngradeRequest_DowngradeAction, version string) func() error {
		return func() error { return g.call(downgrade, &pb.DowngradeRequest{Action: action, Version: version}).run(w) }
	}
	for _, step := range []func() error{
		func() error { return w.atVersion("3.7.0") },
		ask(pb.DowngradeRequest_ENABLE, "3.6"),
		func() error { return w.atVersion("3.6.0") },
		ask(pb.DowngradeRequest_ENABLE, "3.6"), // is where the cluster is now
		ask(pb.DowngradeRequest_ENABLE, "3.5"), // one is under way
		ask(pb.DowngradeRequest_VALIDATE, "3.5"),
		func() error { return g.status().run(w) },
		ask(pb.DowngradeRequest_CANCEL, ""),
		func() error { return w.atVersion("3.7.0") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// versionLimit is for what a server decides by itself: etcd looks at the versions of the members, of the cluster and of its files every
// five seconds each, one after the other, and again where it was too early.
const versionLimit = time.Minute

// atVersion waits until both servers say that what they store has a version, which follows their cluster's.
func (w *world) atVersion(version string) error {
	for _, target := range w.targets {
		at := within(versionLimit, func() bool {
			r, ok := target.call(0, memberStatus, nil, &pb.StatusRequest{}).only().(*pb.StatusResponse)
			return ok && r.StorageVersion == version
		})
		if !at {
			return w.differ("%s does not come to version %s: %v", target.name, version, target.call(0, memberStatus, nil, &pb.StatusRequest{}))
		}
	}
	return nil
}
