package output

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Health is what one endpoint has shown of itself.
type Health struct {
	Endpoint string `json:"endpoint"`
	Health   bool   `json:"health"`
	Took     string `json:"took"` // of the last question
	Error    string `json:"error,omitempty"`

	// The fields below are empty unless the question was repeated.
	Repeat int    `json:"repeat,omitempty"`
	P50    string `json:"p50,omitempty"`
	P99    string `json:"p99,omitempty"`
}

// Status is the answer of one endpoint about itself.
type Status struct {
	Endpoint string             `json:"Endpoint"`
	Status   *pb.StatusResponse `json:"Status"`
}

// HashKV is the answer of one endpoint about its history.
type HashKV struct {
	Endpoint string             `json:"Endpoint"`
	HashKV   *pb.HashKVResponse `json:"HashKV"`
}

// Layout is the version of etcd whose columns are shown.
type Layout int

const (
	LayoutCurrent  Layout = iota // etcd 3.6 and later
	LayoutBefore36               // etcd 3.4 and 3.5
)

// Healths are the answers to endpoint health.
func Healths(all []Health) Answer {
	return Answer{
		message: all, many: true,
		simple: func(w *page) {
			for _, h := range all {
				if h.Error != "" {
					fmt.Fprintf(w.err, "%s is unhealthy: failed to commit proposal: %s\n", h.Endpoint, h.Error)
				} else {
					w.line("%s is healthy: successfully committed proposal: took = %s%s", h.Endpoint, h.Took, h.quantiles())
				}
			}
		},
		fields: func(w *page) {
			for _, h := range all {
				w.quoted("Endpoint", h.Endpoint)
				w.field("Health", h.Health)
				w.field("Took", h.Took)
				w.field("Error", h.Error)
				if h.Repeat > 1 {
					w.field("Repeat", h.Repeat)
					w.field("P50", h.P50)
					w.field("P99", h.P99)
				}
				w.line("")
			}
		},
		table: func() ([]string, [][]string) { return cells(healthColumns(all), all) },
	}
}

func (h Health) quantiles() string {
	if h.Repeat == 0 {
		return ""
	}
	return fmt.Sprintf(", p50 = %s, p99 = %s of %d", h.P50, h.P99, h.Repeat)
}

// healthColumns are etcd's, and the quantiles if any endpoint has some.
func healthColumns(all []Health) []column[Health] {
	columns := []column[Health]{
		{"endpoint", func(h Health) string { return h.Endpoint }},
		{"health", func(h Health) string { return strconv.FormatBool(h.Health) }},
		{"took", func(h Health) string { return h.Took }},
		{"error", func(h Health) string { return h.Error }},
	}
	if slices.ContainsFunc(all, func(h Health) bool { return h.Repeat > 0 }) {
		columns = append(columns, column[Health]{"p50", func(h Health) string { return h.P50 }},
			column[Health]{"p99", func(h Health) string { return h.P99 }})
	}
	return columns
}

// Statuses are the answers to endpoint status.
func Statuses(all []Status, layout Layout) Answer {
	columns := statusColumns
	if layout == LayoutBefore36 {
		columns = statusColumnsBefore36
	}
	rows := func() ([]string, [][]string) { return cells(columns, all) }
	return Answer{
		message: all, many: true, table: rows,
		simple: func(w *page) { w.rows(rows()) },
		fields: func(w *page) {
			for _, s := range all {
				w.status(s)
			}
		},
	}
}

func (w *page) status(s Status) {
	w.header(s.Status.GetHeader())
	w.quoted("Version", s.Status.GetVersion())
	w.quoted("StorageVersion", s.Status.GetStorageVersion())
	w.field("DBSize", s.Status.GetDbSize())
	w.field("DBSizeInUse", s.Status.GetDbSizeInUse())
	w.field("DBSizeQuota", s.Status.GetDbSizeQuota())
	w.field("Leader", s.Status.GetLeader())
	w.field("IsLearner", s.Status.GetIsLearner())
	w.field("RaftIndex", s.Status.GetRaftIndex())
	w.field("RaftAppliedIndex", s.Status.GetRaftAppliedIndex())
	w.field("Errors", s.Status.GetErrors())
	w.quoted("Endpoint", s.Endpoint)
	w.quoted("DowngradeTargetVersion", s.Status.GetDowngradeInfo().GetTargetVersion())
	w.field("DowngradeEnabled", s.Status.GetDowngradeInfo().GetEnabled())
	w.line("")
}

// Hashes are the answers to endpoint hashkv.
func Hashes(all []HashKV, layout Layout) Answer {
	columns := hashColumns
	if layout == LayoutBefore36 {
		columns = hashColumns[:2]
	}
	rows := func() ([]string, [][]string) { return cells(columns, all) }
	return Answer{
		message: all, many: true, table: rows,
		simple: func(w *page) { w.rows(rows()) },
		fields: func(w *page) {
			for _, h := range all {
				w.header(h.HashKV.GetHeader())
				w.quoted("Endpoint", h.Endpoint)
				w.field("Hash", h.HashKV.GetHash())
				w.field("HashRevision", h.HashKV.GetHashRevision())
				w.line("")
			}
		},
	}
}

// statusColumns are those of etcd 3.7; statusColumnsBefore36 those of 3.4 and 3.5.
var (
	statusColumns = []column[Status]{
		endpointColumn, idColumn, versionColumn,
		{"storage version", func(s Status) string { return s.Status.GetStorageVersion() }},
		sizeColumn,
		{"in use", func(s Status) string { return size(s.Status.GetDbSizeInUse()) }},
		{"percentage not in use", func(s Status) string { return fmt.Sprintf("%d%%", notInUse(s.Status)) }},
		{"quota", func(s Status) string { return size(s.Status.GetDbSizeQuota()) }},
		leaderColumn, learnerColumn, termColumn, indexColumn, appliedColumn, errorsColumn,
		{"downgrade target version", func(s Status) string { return s.Status.GetDowngradeInfo().GetTargetVersion() }},
		{"downgrade enabled", func(s Status) string { return strconv.FormatBool(s.Status.GetDowngradeInfo().GetEnabled()) }},
	}
	statusColumnsBefore36 = []column[Status]{endpointColumn, idColumn, versionColumn, sizeColumn, leaderColumn, learnerColumn,
		termColumn, indexColumn, appliedColumn, errorsColumn}

	endpointColumn = column[Status]{"endpoint", func(s Status) string { return s.Endpoint }}
	idColumn       = column[Status]{"ID", func(s Status) string { return fmt.Sprintf("%x", s.Status.GetHeader().GetMemberId()) }}
	versionColumn  = column[Status]{"version", func(s Status) string { return s.Status.GetVersion() }}
	sizeColumn     = column[Status]{"db size", func(s Status) string { return size(s.Status.GetDbSize()) }}
	leaderColumn   = column[Status]{"is leader", func(s Status) string {
		return strconv.FormatBool(s.Status.GetLeader() == s.Status.GetHeader().GetMemberId())
	}}
	learnerColumn = column[Status]{"is learner", func(s Status) string { return strconv.FormatBool(s.Status.GetIsLearner()) }}
	termColumn    = column[Status]{"raft term", func(s Status) string { return fmt.Sprint(s.Status.GetRaftTerm()) }}
	indexColumn   = column[Status]{"raft index", func(s Status) string { return fmt.Sprint(s.Status.GetRaftIndex()) }}
	appliedColumn = column[Status]{"raft applied index", func(s Status) string { return fmt.Sprint(s.Status.GetRaftAppliedIndex()) }}
	errorsColumn  = column[Status]{"errors", func(s Status) string { return strings.Join(s.Status.GetErrors(), ", ") }}
)

// hashColumns are those of etcd 3.7; those of 3.4 and 3.5 are the first two.
var hashColumns = []column[HashKV]{
	{"endpoint", func(h HashKV) string { return h.Endpoint }},
	{"hash", func(h HashKV) string { return fmt.Sprint(h.HashKV.GetHash()) }},
	{"hash_revision", func(h HashKV) string { return fmt.Sprint(h.HashKV.GetHashRevision()) }},
}

func size(bytes int64) string { return humanize.Bytes(uint64(max(bytes, 0))) }

// notInUse is the share of the database that holds nothing, in percent as etcd rounds it: up.
func notInUse(s *pb.StatusResponse) int64 {
	if s.GetDbSize() <= 0 {
		return 0
	}
	return 100 - s.GetDbSizeInUse()*100/s.GetDbSize()
}
