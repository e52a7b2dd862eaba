// Package crash ends a member at every kind of bad moment, starts it again and looks for what was lost.
//
//	memory_test.go   the member in this process, on a file system in memory that forgets, at random, what was not synced
//	kill_test.go     the binary, killed at random moments and at every failpoint
//	space_test.go    the binary on a small disk that fills up
//	refuse_test.go   the binary told to start where it cannot
//
// All of them share the writers (clients_test.go), which keep a journal of what they sent and what they were told
// (journal_test.go), and the judge (judge_test.go), which compares the journal with what the member says after its restart:
//
//   - every acknowledged operation is there, whole, at the revision that was told; every other one whole or not at all
//   - revisions have no gap, never go back, and never get another content than somebody has seen
//   - a watch goes on after the last revision it had delivered, without gap or repeat
//   - leases that were granted exist with their keys, revoked ones are gone with theirs
//   - the compacted revision never goes back, and what was compacted away is refused
//   - the hash of a revision stays what it was
//
// faults_test.go shows that the judge notices each of these, and memory_test.go that it notices a member that does not sync.
//
// HOLDFAST_CRASHES and HOLDFAST_KILLS are how many crashes of the first and of the second kind to do; HOLDFAST_SEED repeats
// the choices of a run, as far as the operating system's scheduler lets it. The small disk needs root and loop devices;
// space_test.go skips itself where there are none.
package crash
