package bench

import (
	"fmt"
	"strings"
)

// target is what a figure of a row is to reach.
//
//	Units   those of the figure; of a multiple, none
type target struct {
	value     string  // the figure's name
	must, aim float64 // what it has to reach, and what we would like; 0: nothing
	least     bool    // they are the least, not the most
	multiple  bool    // they are multiples of etcd's figure
	// etcd is what etcd took on the machine that must and aim were set on; 0: not known. On another machine the ratio to etcd in the
	// same run says more than the figure itself.
	etcd float64
}

// promised are the targets of the rows that a run measures first, three times, before it turns to any other. The row load is one of them because most
// of the others start from what it writes.
var promised = map[string][]target{
	"load":             {{value: "last_to_second", must: 0.8, least: true}},
	"put-1000":         {cpu(22, 18, 42), rate(1.6, 1.9)},
	"put-tls-1000":     {cpu(26, 20, 113), rate(3, 0)},
	"put-members-3":    {cpu(48, 40, 92)},
	"put-16":           {cpu(58, 45, 81), rate(1.2, 1.4)},
	"put-1":            {rate(1.1, 1.3)},
	"kube-update-200":  {cpu(35, 28, 77)},
	"get-1000":         {cpu(18, 15, 29)},
	"get-serializable": {cpu(17, 14, 30)},
	"list-10000":       {cpu(9000, 6000, 21_500)},
	"page-500":         {cpu(700, 400, 12_600)},
	"count-100000":     {cpu(100, 30, 10_300)},
	"watch-1000":       {{value: "server_us_per_event", must: 1.6, aim: 1.1, etcd: 4}},
	"watch-tls-1000":   {{value: "server_us_per_event", must: 3, aim: 2, etcd: 11.5}},
	"restart": {
		{value: "stopped_answer_s", must: 0.4, aim: 0.15, etcd: 3.3},
		{value: "killed_answer_s", must: 1, aim: 0.6, etcd: 3.8},
		{value: "stopped_settled_mb", must: 150, aim: 80, etcd: 454},
		{value: "killed_settled_mb", must: 150, aim: 80, etcd: 454},
	},
	"defragment":   {{value: "max_us_ratio", must: 5, aim: 1.5}}, // "none" is the aim: no longer than what moves the longest by itself
	"compact-idle": {{value: "compact_s", must: 3, aim: 1.5, etcd: 9.9}},
	"failover":     {{value: "kill_gap_p50_ms", must: 600, aim: 300, etcd: 1500}},
}

// asked are the targets of others.
var asked = map[string][]target{
	"get-keys-10k":    {cpu(18, 15, 29)},
	"put-half":        {{value: "p99_us", must: 0.5, multiple: true}},
	"compact-serving": {{value: "p99_us_ratio", must: 1.5}},
	"watch-10000":     {{value: "p99_us", must: 100_000}},
	"ranges-40": {
		{value: "killed", must: 0}, {value: "succeeded", must: bulkRanges, least: true}, {value: "in_work_min", must: 4, least: true},
		{value: "puts_ratio", must: 0.5, least: true},
	},
	"login":          {{value: "ops_per_s", must: 5000, least: true}},
	"idle":           {{value: "anonymous_mb", must: 64}, {value: "server_cores", must: 0.005}, {value: "written_bytes_per_s", must: 4096}},
	"idle-members-3": {{value: "anonymous_most_mb", must: 300}, {value: "cores_most", must: 0.2}},
	"load-10m":       {{value: "stopped_answer_s", must: 1}, {value: "anonymous_max_mb", must: 600}, {value: "last_to_second", must: 0.8, least: true}},
	"leases":         {{value: "late_max_ms", must: 2000}, {value: "early", must: 0}},
}

func cpu(must, aim, etcd float64) target {
	return target{value: "server_us_per_op", must: must, aim: aim, etcd: etcd}
}

// rate is so many times etcd's.
func rate(must, aim float64) target {
	return target{value: "ops_per_s", must: must, aim: aim, least: true, multiple: true}
}

func targetsOf(row string) []target {
	if t, has := promised[row]; has {
		return t
	}
	return asked[row]
}

// String says it in words.
func (t target) String() string {
	how, of := "at most", ""
	if t.least {
		how = "at least"
	}
	if t.multiple {
		of = " times etcd's"
	}
	s := fmt.Sprintf("%s %s %s", t.value, how, short(t.must))
	if t.aim != 0 {
		s += ", better " + short(t.aim)
	}
	return s + of
}

// goal is what is wanted of a row, in words; "" if only the comparison counts.
func (r row) goal() string {
	var all []string
	for _, t := range targetsOf(r.name) {
		all = append(all, t.String())
	}
	if r.aim != "" {
		all = append(all, r.aim)
	}
	return strings.Join(all, "; ")
}

// The verdicts on a figure.
const (
	reached, met, missed = "aim", "must", "missed"
)

// reach compares v with two bounds.
func (t target) reach(v, must, aim float64) string {
	within := func(bound float64) bool { return t.least && v >= bound || !t.least && v <= bound }
	switch {
	case t.aim != 0 && within(aim):
		return reached
	case within(must) && t.aim == 0:
		return reached // there is nothing better to wish for
	case within(must):
		return met
	}
	return missed
}

// verdict says how far the medians of both sides reach: absolutely, and as a ratio; "" where it cannot be told. etcd is 0 when it was not measured.
func (t target) verdict(own, etcd float64) (absolute, ratio string) {
	if !t.multiple {
		absolute = t.reach(own, t.must, t.aim)
	}
	if etcd == 0 {
		return absolute, ""
	}
	switch {
	case t.multiple:
		ratio = t.reach(own/etcd, t.must, t.aim)
	case t.etcd != 0:
		ratio = t.reach(own/etcd, t.must/t.etcd, t.aim/t.etcd)
	}
	return absolute, ratio
}
