package replica

// Limits bound what a replica holds in memory and how large its steps are. A zero field stands for its default.
type Limits struct {
	// QueuedEntries and QueuedBytes bound the proposals that wait for a leader or for room in the log. Beyond them callers
	// are refused with ErrTooManyRequests.
	QueuedEntries int    // default 32768: a connected client has one write under way, and more writers than that only wait
	QueuedBytes   uint64 // default 64 MiB

	// ApplyGap is how many committed entries may wait for the applier before proposals are refused.
	ApplyGap uint64 // default 5000, etcd's number: about what a healthy member applies in a tenth of a second

	// UncommittedBytes bounds what a leader takes on before a quorum has it.
	UncommittedBytes uint64 // default 64 MiB
	// InflightBytes bounds what is on its way to one follower.
	InflightBytes uint64 // default 64 MiB: a gigabit link over 500 ms
	// ApplyingBytes bounds committed entries handed to the applier and not yet applied.
	ApplyingBytes uint64 // default 8 MiB: two runs, one being applied and one waiting

	// KeptEntries and KeptBytes bound the applied entries kept in memory for followers slightly behind; older ones are read
	// back from the log. The only member of a cluster keeps none.
	KeptEntries int    // default 4096
	KeptBytes   uint64 // default 16 MiB, counting what is not applied yet
}

const (
	// messageBytes bounds the entries of one message to a follower. etcd's number: larger ones delay heartbeats behind them.
	messageBytes = 1 << 20
	// inflightMessages bounds the appends on their way to one follower. etcd's number.
	inflightMessages = 512
	// proposalBytes and proposalEntries bound what becomes one proposal: enough to make raft's cost per proposal
	// disappear, little enough that it always fits UncommittedBytes.
	proposalBytes   = 4 << 20
	proposalEntries = 4096
	// unsyncedSaves is how many appends may be on their way to the disk before a leader holds new proposals back. What comes
	// during a sync gains nothing from an append of its own, and one that is ready too early is a small one. Measured with
	// BenchmarkPropose, 16 callers on a disk of 0.1 ms: with 1, 7.7 entries share a sync and one costs 7.6 µs of CPU; with 2
	// it is 5.1 entries and 12 µs, without a bound 7.2 and 13 µs. With 1000 callers 1.1, 1.4 and 2.9 µs.
	unsyncedSaves = 1
	// runEntries and runBytes bound what the machine applies as one batch, and so how long the first entry's
	// caller waits for the last entry.
	runEntries = 1024
	runBytes   = 4 << 20
)

func (l Limits) withDefaults() Limits {
	orDefault(&l.QueuedEntries, 32768)
	orDefault(&l.QueuedBytes, 64<<20)
	orDefault(&l.ApplyGap, 5000)
	orDefault(&l.UncommittedBytes, 64<<20)
	orDefault(&l.InflightBytes, 64<<20)
	orDefault(&l.ApplyingBytes, 8<<20)
	orDefault(&l.KeptEntries, 4096)
	orDefault(&l.KeptBytes, 16<<20)
	l.InflightBytes = max(l.InflightBytes, messageBytes) // raft insists
	return l
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}
