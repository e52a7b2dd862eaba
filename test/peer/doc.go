// Package peer sends the same operations to Holdfast and to a real etcd and compares everything that comes back:
// answers, headers, error codes and texts, watch events, hashes, snapshots.
//
// An episode starts both servers on empty folders with equal flags, draws a list of operations from a seed, and runs
// them one after the other over several connections and watch streams; each goes to both servers at the same moment. At
// barriers the watches must have delivered what the history says and the two servers the same. After the list come a
// part where several clients run at once and the closing comparisons. An operation names revisions by their place
// ("current-3", "compacted") and leases by slot, never by number, so a list stays meaningful when operations are dropped:
// that is how a failing seed is made small.
//
// What may differ stands in differences.txt, a line with a reason for each; so does what ours does not serve yet, which is
// asked of ours alone, and a line that applies to nothing any more fails the run. What has to be met stands in the
// catalogue (catalogue.go): every rule has a name and a count, an operation drawn on purpose, and a run in which one of them
// was never met fails.
//
//	Shape   seed -> []op (generate*.go) -> both servers (target.go) -> comparison (compare.go, watch*.go) -> tally
//	Units   revisions as etcd counts them; sizes in bytes
//	Errors  the first difference ends an episode; it is reported with the operations before it and the command that repeats it
//	Source  etcd v3 API; the servers themselves
package peer
