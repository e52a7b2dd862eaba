// Package sim runs whole clusters in one goroutine, on a simulated network, simulated disks and a simulated clock, breaks
// them as a seed says, and judges what clients saw.
//
// Everything that happens is an event in one queue, ordered by simulated time. A member's work is a handful of calls that
// end (advance raft, write the log, apply, read back, flush, release, compact, end leases); the queue decides which comes
// when. A seed decides everything else, so the same seed gives the same event log, line by line.
//
// The members are made of the product's passive parts: replica, raftlog, storage, mvcc, lease, membership, apply and watch.
// What package server does with goroutines between them is done here by member_test.go and its neighbours:
//
//	here                    stands for, in package server
//	found_test.go           found.go: founding entries, resuming from log and store
//	adapters_test.go        adapters.go: replica.Log and replica.Machine
//	serve_test.go           propose.go, read.go, waiters.go: a proposal, its waiter and its result; read index, then read
//	clock_test.go           lease.go, leader.go: leases end on the leader; the clock is server's own
//	upkeep_test.go          upkeep.go: flush, release of the log, physical compaction
//	snapshot_test.go        catchup.go: a received state takes the place of the present one; the directories are server's own
//	membership_test.go      reconfigure.go, peers.go: changes of the membership, and what an operator does about them
//	users_test.go           login.go, read.go: who asks, and whether a read is permitted; login's table of simple tokens is token's own
//	failover_test.go        failover.go: elections when the leader is known to be down, handing over, leaving when removed
//
// Pebble's own compactions are off, for their time is not the queue's; the upkeep merges the tables now and then instead.
//
// Where server offers such a piece as a call that ends, it belongs here in place of the copy.
//
// The judge is tested too: plant_*_test.go make mistakes on purpose, in what stands between the parts, each in builds with its
// tag only, and each must be found.
//
//	go test ./test/sim -seed=1 -rounds=500      the long form; it counts how often each fault struck
//	go test ./test/sim -run TestClusters -seed=7 -rounds=1 -eventlog=/tmp/7.log
//	go test -tags plant_stale_read ./test/sim -run TestPlanted
//	go test -tags plant_all ./test/sim -run TestClusters -seed=1 -rounds=1 -plant=stale-read
//
// recover_test.go stops such runs at any step, lets a minority survive, and holds what server.Recovery makes of its disks against
// the history. -losses=N does so at N steps of each run, with every minority there is. Recoveries with mistakes in them must be found.
//
// What it does not do yet: fail single reads and writes, run the API above the server.
//
//	Shape   world: queue, network, members, clients, watchers, faults; judge: what is right
//	Units   simulated time since the start; a tick of raft is 100 ms
//	Source  FoundationDB and TigerBeetle for the idea; etcd's robustness tests for what is asked of watches
package sim
