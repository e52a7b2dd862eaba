// Package cli runs command line tools against servers, like against like, and compares what they answer: exit code, standard
// output, standard error, byte for byte but for the few numbers that a server draws or measures.
//
// What is compared is a tool and its server. With one tool on both sides it holds the servers against each other, with two tools
// on servers of one kind the tools.
package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"holdfast/test/run"
)

// callTimeout is far more than a call takes.
const callTimeout = 20 * time.Second

// Call is one run of etcdctl.
type Call struct {
	Args  []string
	Stdin string
	Env   []string // "NAME=value", beside those of the test
	// Lease says that the answer grants a lease, whose id later calls write as LEASE1, LEASE2, …
	Lease bool
	// Until ends a program that would go on, once it has written as many lines.
	Until int
	// Loose says that the answer holds measured numbers; only its shape is compared.
	Loose bool
	// Cells says that the answer is a table whose columns are as wide as the numbers measured: its cells are compared.
	Cells bool
	// Hushed says that which of several errors is met first is chance: standard error is not compared.
	Hushed bool
	// Part is the part of the protocol the call belongs to, if it is one that a server may lack.
	Part string
}

func (c Call) String() string {
	text := strings.Join(append(append([]string{}, c.Env...), fmt.Sprintf("%q", c.Args)), " ")
	if c.Stdin != "" {
		text += fmt.Sprintf(" <<< %q", c.Stdin)
	}
	return text
}

// Tool is a program pointed at one server.
type Tool struct {
	Path   string
	Within []string         // a command that becomes the program: it is given the path and the arguments
	Server *run.Server      // nil where the calls say whom to ask
	Dir    string           // for files the commands write
	Drop   []*regexp.Regexp // cut out of what it writes to standard error, and out of no other stream

	leases []string // ids granted, in hexadecimal
	member string
}

// New points the program at path to a server.
func New(t *testing.T, path string, server *run.Server) *Tool {
	t.Helper()
	tl := &Tool{Path: path, Server: server, Dir: t.TempDir()}
	conn, err := server.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := pb.NewMaintenanceClient(conn).Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	tl.member = fmt.Sprintf("%x", r.GetHeader().GetMemberId())
	return tl
}

// Compare makes the calls on both sides, one after the other, and reports each whose outcomes differ.
func Compare(t *testing.T, sides [2]*Tool, calls [2][]Call) {
	t.Helper()
	for i := range calls[0] {
		want, got := Both(t, sides, calls[0][i], calls[1][i])
		if want != got {
			t.Errorf("%d: %s\n--- etcd\n%s\n--- under test\n%s", i, calls[0][i], want, got)
		}
	}
}

// Both makes a call on each side at the same time and returns the outcomes, normalised.
func Both(t *testing.T, sides [2]*Tool, first, second Call) (string, string) {
	t.Helper()
	var answers [2]string
	var group sync.WaitGroup
	for i, c := range []Call{first, second} {
		group.Go(func() { answers[i] = sides[i].Run(t, c) })
	}
	group.Wait()
	return answers[0], answers[1]
}

// Run carries a call out and returns its status and output, normalised.
func (tl *Tool) Run(t *testing.T, c Call) string {
	t.Helper()
	args := make([]string, len(c.Args))
	for i, arg := range c.Args {
		for n, lease := range tl.leases {
			arg = strings.ReplaceAll(arg, fmt.Sprintf("LEASE%d", n+1), lease)
		}
		args[i] = arg
	}
	c.Args, c.Env = tl.fill(args), tl.fill(c.Env)
	out := tl.Output(t, c)
	if c.Lease {
		tl.learnLease(t, out)
	}
	if c.Cells {
		out = cells(out)
	}
	return tl.normal(out, c.Loose)
}

// fill puts the names of this side into the place of MEMBER, SERVER and DIR.
func (tl *Tool) fill(words []string) []string {
	r := strings.NewReplacer("MEMBER", tl.member, "SERVER", tl.address(), "DIR", tl.Dir)
	out := make([]string, len(words))
	for i, word := range words {
		out[i] = r.Replace(word)
	}
	return out
}

// address is the server's.
func (tl *Tool) address() string {
	if tl.Server == nil {
		return "SERVER"
	}
	return tl.Server.Client
}

// Output runs the program and writes its exit code before what it wrote.
func (tl *Tool) Output(t *testing.T, c Call) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	argv := slices.Concat(tl.Within, []string{tl.Path}, tl.endpoints(c), c.Args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(c.Stdin)
	cmd.Env = append(os.Environ(), c.Env...)
	out := &lines{limit: c.Until, reached: make(chan struct{})}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &stderr
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return ""
	}
	if c.Until > 0 {
		go func() { // ends with the call: either way its context does
			select {
			case <-out.reached:
				_ = cmd.Process.Signal(os.Interrupt) // fails only when it has ended
			case <-ctx.Done():
			}
		}()
	}
	err := cmd.Wait()
	code := "exit 0"
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		code = "no end within " + callTimeout.String()
	case errors.As(err, &exit):
		code = exit.String()
	case err != nil:
		t.Error(err)
	}
	if c.Until > 0 && ctx.Err() == nil {
		code = "ended" // by signal or by itself, whichever came first
	}
	if c.Until > 0 {
		return code + "\n" + out.text() // what the interruption makes of standard error is chance
	}
	if c.Hushed {
		return code + "\n" + out.text()
	}
	said := stderr.String()
	for _, d := range tl.Drop {
		said = d.ReplaceAllString(said, "")
	}
	return code + "\n" + out.text() + said
}

// endpoints points the program at the server, unless the call says where to.
func (tl *Tool) endpoints(c Call) []string {
	if tl.Server == nil {
		return nil
	}
	for _, arg := range c.Args {
		if strings.HasPrefix(arg, "--endpoints") {
			return nil
		}
	}
	for _, pair := range c.Env {
		if strings.HasPrefix(pair, "ETCDCTL_ENDPOINTS=") {
			return nil
		}
	}
	return []string{"--endpoints=" + tl.Server.Client}
}

// OK runs the program and fails the test when it does.
func (tl *Tool) OK(t *testing.T, args ...string) string {
	t.Helper()
	out := tl.Output(t, Call{Args: args})
	text, ok := strings.CutPrefix(out, "exit 0\n")
	if !ok {
		t.Fatalf("%s %q: %s", tl.Path, args, out)
	}
	return text
}

var (
	leaseText = regexp.MustCompile(`lease ([0-9a-f]{16}) granted`)
	leaseJSON = regexp.MustCompile(`"ID" ?: ?([0-9]+)`)
)

// learnLease notes the id that the answer grants.
func (tl *Tool) learnLease(t *testing.T, out string) {
	t.Helper()
	if m := leaseText.FindStringSubmatch(out); m != nil {
		tl.leases = append(tl.leases, m[1])
		return
	}
	if m := leaseJSON.FindStringSubmatch(out); m != nil {
		var id uint64
		if _, err := fmt.Sscan(m[1], &id); err != nil {
			t.Error(err)
		}
		tl.leases = append(tl.leases, fmt.Sprintf("%016x", id))
		return
	}
	t.Errorf("no lease granted: %s", out)
	tl.leases = append(tl.leases, "none")
}

// drawn are the parts of an answer that differ from run to run on one server too.
var drawn = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`[0-9.]+(ns|µs|ms|s)\b`), "TIME"},
	{regexp.MustCompile(`"ts":"[^"]*"`), `"ts":"TIME"`},
	{regexp.MustCompile(`etcd-endpoints://0x[0-9a-f]+`), "etcd-endpoints://ADDRESS"},
	{regexp.MustCompile(`LocalAddr: '[^']*'`), "LocalAddr"},
	{regexp.MustCompile(`"(attempt)":[0-9]+`), `"$1":N`},
	{regexp.MustCompile(`"?(db_size|dbSize|db_size_in_use|dbSizeInUse|DBSize|DBSizeInUse)"?( ?): ?[0-9]+`), `$1:SIZE`},
	{regexp.MustCompile(`[0-9.]+ [kMG]?B\b`), "SIZE"},
	{regexp.MustCompile(`SIZE, SIZE, [0-9]+%`), "SIZE, SIZE, SHARE%"},
	{regexp.MustCompile(`remaining\([0-9]+s?\)`), "remaining(TIME)"},
	{regexp.MustCompile(`(poll|locks)/[0-9a-f]+`), "$1/LEASE"},
	{regexp.MustCompile(`"(raftIndex|raftAppliedIndex|RaftIndex|RaftAppliedIndex)"( ?):( ?)[0-9]+`), `"$1"$2:${3}INDEX`},
	{regexp.MustCompile(`(true|false), ([0-9]+), [0-9]+, [0-9]+, `), "$1, $2, INDEX, INDEX, "},
	{regexp.MustCompile(`(memberID:[0-9]+) +alarm:`), "$1 alarm:"}, // each build of etcd's messages has its own blanks
	{regexp.MustCompile(`"(ttl|TTL)" ?: ?[0-9]+`), `"$1":TIME`},
}

// normal replaces what no two servers have in common.
func (tl *Tool) normal(text string, loose bool) string {
	for i, lease := range tl.leases {
		name := fmt.Sprintf("LEASE%d", i+1)
		text = strings.ReplaceAll(text, lease, name)
		var id uint64
		if _, err := fmt.Sscanf(lease, "%x", &id); err == nil {
			text = strings.ReplaceAll(text, fmt.Sprint(id), name)
		}
	}
	text = strings.ReplaceAll(text, tl.address(), "ENDPOINT")
	text = strings.ReplaceAll(text, tl.Dir, "DIR")
	for _, d := range drawn {
		text = d.pattern.ReplaceAllString(text, d.with)
	}
	if loose {
		text = regexp.MustCompile(`[0-9a-f]+`).ReplaceAllString(text, "N")
		text = regexp.MustCompile(` +|-{2,}|─{2,}`).ReplaceAllString(text, " ")
	}
	return text
}

var (
	border  = regexp.MustCompile(`[┌┬┐├┼┤└┴┘─]+`)
	between = regexp.MustCompile(` *│ *`)
)

// cells takes the widths out of a table.
func cells(text string) string {
	return between.ReplaceAllString(border.ReplaceAllString(text, "─"), ", ")
}

// lines collects what is written and closes reached when limit lines are there; 0 is no limit.
type lines struct {
	limit   int
	reached chan struct{}
	buf     bytes.Buffer
	closed  bool
}

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.buf.Write(p)
	if l.limit > 0 && !l.closed && bytes.Count(l.buf.Bytes(), []byte("\n")) >= l.limit {
		l.closed = true
		close(l.reached)
	}
	return n, err
}

// text returns what was written, up to the limit.
func (l *lines) text() string {
	all := l.buf.String()
	if l.limit == 0 {
		return all
	}
	parts := strings.SplitAfter(all, "\n")
	return strings.Join(parts[:min(l.limit, len(parts))], "")
}
