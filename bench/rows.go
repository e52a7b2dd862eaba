package main

import (
	"context"
	"fmt"
)

// row is one question to both sides.
type row struct {
	name string
	asks string
	aim  string // what we want of our side; empty where only the comparison counts
	once bool   // one round says enough, or costs too much for more
	show []string
	run  func(ctx context.Context, t *task) error
}

// rows in the order in which they run.
func rows() []row {
	var all []row
	for _, load := range []kvLoad{
		{name: "put", op: put, callers: 1, aim: "rate at least 1.1, better 1.3 times etcd's"},
		{name: "put", op: put, callers: 16, aim: "58 us of server CPU, better 45"},
		{name: "put", op: put, callers: 1000, aim: "22 us of server CPU, better 18; rate at least 1.6, better 1.9 times etcd's"},
		{name: "put-tls", op: put, callers: 1000, tls: true, aim: "26 us of server CPU, better 20; rate at least 3 times etcd's"},
		{name: "get", op: get, callers: 1},
		{name: "get", op: get, callers: 16},
		{name: "get", op: get, callers: 1000, aim: "18 us of server CPU, better 15"},
	} {
		all = append(all, row{
			name: fmt.Sprintf("%s-%d", load.name, load.callers),
			asks: load.question(),
			aim:  load.aim,
			show: []string{"ops_per_s", "server_us_per_op", "client_us_per_op", "p50_us", "p99_us", "max_us", "others_cores"},
			run:  load.run,
		})
	}
	for _, op := range []string{"put", "get"} {
		load := jsonLoad{op: op, callers: 16}
		all = append(all, row{
			name: fmt.Sprintf("json-%s-%d", op, load.callers),
			asks: load.question(),
			show: []string{"ops_per_s", "server_us_per_op", "client_us_per_op", "p50_us", "p99_us", "max_us", "others_cores"},
			run:  load.run,
		})
	}
	return append(all,
		row{
			name: "login",
			asks: fmt.Sprintf("how many tokens a second does one user get for its password, %d callers at a time?", loginCallers),
			aim:  "5,000",
			show: []string{"ops_per_s", "server_us_per_op", "client_us_per_op", "p50_us", "p99_us", "max_us", "others_cores"},
			run:  login,
		},
		row{
			name: "idle",
			asks: "what does an empty member take that nobody asks?",
			aim:  "64 MB, 0.005 cores, 4 KB/s",
			once: true,
			show: []string{"anonymous_mb", "server_cores", "written_bytes_per_s", "others_cores"},
			run:  idle,
		},
		row{
			name: "load",
			asks: "does a million keys of 256 B go in at a steady rate, with memory that does not grow?",
			aim:  "the last 100,000 as fast as the first, in no more memory than the caches are given",
			once: true,
			show: []string{"ops_per_s", "first_per_s", "last_per_s", "server_us_per_op", "p99_us", "max_us", "anonymous_first_mb",
				"anonymous_max_mb", "disk_mb", "written_bytes_per_op", "others_cores"},
			run: load,
		},
		row{
			name: "restart",
			asks: "how soon does a member with a million keys answer again, and in how much memory?",
			aim:  "0.4 s after a stop, better 0.15; 1 s after kill -9, better 0.6; 150 MB, better 80",
			show: []string{"killed_answer_s", "killed_anonymous_mb", "killed_settled_mb", "stop_s", "stopped_answer_s",
				"stopped_anonymous_mb", "stopped_settled_mb"},
			run: restart,
		},
		row{
			name: "failover",
			asks: "for how long are writes not acknowledged when the leader of three is killed, and when it is stopped?",
			aim:  "0.6 s after a kill, better 0.3",
			once: true,
			show: []string{"kill_gap_p50_ms", "kill_gap_max_ms", "term_gap_p50_ms", "term_gap_max_ms"},
			run:  failover,
		},
		row{
			name: "leases",
			asks: "are leases that nobody keeps alive any more gone in time, 5,000 a second, and what do others' puts feel of it?",
			aim:  "each key gone within 2 s of its time, none before it; puts go on at 2,000/s",
			once: true,
			show: []string{"late_p50_ms", "late_p99_ms", "late_max_ms", "early", "put_p50_us", "put_p99_us", "put_max_us", "puts_per_s",
				"renewals_per_s", "grant_behind_max_ms", "server_cores"},
			run: leases,
		})
}
