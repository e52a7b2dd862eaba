package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/apply"
	"holdfast/kv"
	"holdfast/membership"
	"holdfast/metrics"
	"holdfast/tracing"
)

// Config is what a member is made of. Times and sizes are etcd's defaults where a field says so.
type Config struct {
	FS vfs.FS // of the data directory; nil is the operating system's
	// DataDir holds everything the member keeps. WALDir moves the raft log elsewhere; empty leaves it in DataDir.
	DataDir, WALDir string

	// Name and ClientURLs are what the member publishes about itself.
	Name       string
	ClientURLs []string
	// PeerURLs are where other members reach this one, as it tells those that do not know it yet.
	PeerURLs []string
	// Founders are the members of the cluster that a member without data founds, together with the others. It is the one
	// named Name. With data present they are not looked at.
	Founders []membership.Member
	// Joined is what a member without data belongs to if it founds no cluster: Founders are not looked at then. With data
	// present it is not looked at itself.
	Joined *Joined
	// ForceNewCluster makes a member with data the only one of its cluster.
	ForceNewCluster bool

	// Heartbeat is raft's tick; ElectionTicks is how many of them without a leader start an election.
	Heartbeat     time.Duration
	ElectionTicks int
	PreVote       bool
	// HurryElection shortens the wait for the first election once a majority is connected (--initial-election-tick-advance).
	HurryElection bool

	// SnapshotEvery is after how many applied entries the log is given free below the durable state, but for
	// CatchUpEntries that stay for members slightly behind.
	SnapshotEvery, CatchUpEntries uint64
	// SegmentBytes is the size of a file of the raft log; 0 chooses one that fits the disk.
	SegmentBytes int64
	// NoCheckpoints has states exchanged with other members as etcd databases only.
	NoCheckpoints bool
	// UnsafeNoSync leaves out every sync of the raft log.
	UnsafeNoSync bool

	// Quota bounds the bytes of all revisions kept; 0 or less is no bound.
	Quota int64
	// RequestBytesMax bounds the log entry that a request becomes.
	RequestBytesMax int
	// LeaseCheckpointsOff keeps the members from agreeing on what is left of leases: a new leader gives each its whole life.
	LeaseCheckpointsOff bool
	// LearnersMax bounds how many learners the cluster may have.
	LearnersMax int
	// StrictReconfigCheck refuses changes of the membership after which those who work might be no majority.
	StrictReconfigCheck bool

	// Tokens is told who is logged in; nil where nobody logs in.
	Tokens apply.Tokens

	// DowngradeCheck is how often the leader looks whether a downgrade is complete; 0 is never.
	DowngradeCheck time.Duration

	// Corruption says when members compare what they hold.
	Corruption CorruptionChecks

	// AutoCompaction compacts the history by itself.
	AutoCompaction AutoCompaction
	// CompactionRows and CompactionPause are the size of one step of a physical compaction and the rest after it.
	CompactionRows  int
	CompactionPause time.Duration

	// Memory bounds what the parts hold.
	Memory Memory
	// UpkeepInterval is how often it is looked at whether the store is to be flushed or the log to be released; 0 is
	// UpkeepIntervalDefault.
	UpkeepInterval time.Duration
	// SlowApply is from when on a run of commands is logged that took so long to apply; 0 logs none.
	SlowApply time.Duration

	// PeerReadTimeout and PeerWriteTimeout are how long a connection to a member may stand still; 0 is etcd's 5 s.
	PeerReadTimeout, PeerWriteTimeout time.Duration
	// Dial replaces net.Dialer in connections to other members, for simulated networks; nil is the real one.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// PeerTLS is for a connection to another member's https URL on that host; nil: the system's authorities, no certificate.
	PeerTLS func(host string) *tls.Config

	// Metrics is what the member shows; nil is a set of its own.
	Metrics *metrics.Set
	// Tracing is told what the spans of requests waited for; nil is told nothing.
	Tracing *tracing.Tracing
	Log     *slog.Logger     // required
	Now     func() time.Time // nil is time.Now
}

// Defaults of Config.
const (
	// CompactionRowsDefault and CompactionPauseDefault are etcd's: a step takes about a millisecond.
	CompactionRowsDefault  = 1000
	CompactionPauseDefault = 10 * time.Millisecond
	// UpkeepIntervalDefault lets a disk at full speed fill up by about a gigabyte between two looks.
	UpkeepIntervalDefault = time.Second
	// watchFragmentExtra is how far a watch response may exceed a request before it is split, as in etcd.
	watchFragmentExtra = 512 << 10
)

func (c *Config) fill() error {
	if c.Log == nil || c.DataDir == "" {
		return errors.New("server: Config needs Log and DataDir")
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = metrics.New(metrics.Config{})
	}
	if c.CompactionRows <= 0 {
		c.CompactionRows = CompactionRowsDefault
	}
	if c.CompactionPause <= 0 {
		c.CompactionPause = CompactionPauseDefault
	}
	if c.UpkeepInterval <= 0 {
		c.UpkeepInterval = UpkeepIntervalDefault
	}
	if c.Memory.WatchLogBytes <= 0 {
		c.Memory.WatchLogBytes = WatchLogBytesDefault
	}
	return nil
}

// founder is this member among the founders.
func (c *Config) founder() (membership.Member, error) {
	for _, m := range c.Founders {
		if m.Name == c.Name {
			return m, nil
		}
	}
	return membership.Member{}, fmt.Errorf("no member of --initial-cluster has the name %q of this one: add it there, or correct --name", c.Name)
}

func (c *Config) clusterID() uint64 {
	ids := make([]kv.MemberID, len(c.Founders))
	for i := range c.Founders {
		ids[i] = c.Founders[i].ID
	}
	return membership.ClusterID(ids)
}

// electionTimeout is how long a follower waits for a word of its leader.
func (c *Config) electionTimeout() time.Duration { return time.Duration(c.ElectionTicks) * c.Heartbeat }

// peerDialTimeout is how long a connection to another member may take to come about, as in etcd: a second more than the
// election timeout.
func (c *Config) peerDialTimeout() time.Duration { return time.Second + c.electionTimeout() }

// requestTimeout is how long a request may take, as in etcd: five seconds for the disks and two elections.
func (c *Config) requestTimeout() time.Duration { return 5*time.Second + 2*c.electionTimeout() }

// leaseTTLMin is the shortest life of a lease in seconds, as in etcd: one and a half election timeouts, rounded up.
func (c *Config) leaseTTLMin() int64 {
	timeout := c.electionTimeout()
	return int64((3*timeout/2 + time.Second - 1) / time.Second)
}
