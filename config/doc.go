// Package config reads what etcd reads: flags, ETCD_* variables and a YAML or JSON file, with etcd's names, defaults, rules
// and sentences. It prints nothing, ends nothing and keeps no state between calls; of the machine it sees the one file that is
// named, through Sources.ReadFile, and what DefaultHost is asked for.
//
// One table (table_*.go) has a row for every flag that etcd has had since 3.4. The row says what became of the flag, so that
// an old command line either means here what it meant there or ends with a sentence that says what to do. The help,
// docs/flags.md, the variables and the file's keys all come from that table.
//
//	Shape   Parse: Sources -> Config, Notes (to be logged at start), error (a *Stop: what to print and the exit status)
//	Units   as etcd's flags: heartbeat and election in milliseconds, sizes in bytes, durations in Go's form ("5m");
//	        a file gives durations as integer nanoseconds
//	Errors  *Stop only; errors.Is finds ErrAdvertiseClientURLs and ErrBootstrapConflict behind it
//	Source  behaviour of etcd 3.4 to 3.7
package config
