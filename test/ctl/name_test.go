package ctl

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/names"
	"holdfast/test/run"
)

// startNamed starts three members whose clients' ports have one number, each on an address of its own, and returns them with a name
// server that knows one name for all of them.
func startNamed(t *testing.T, binary string) (members []*run.Server, url string, within []string) {
	t.Helper()
	port := portOf(t, etcd.FreeAddress(t))
	var pairs, addresses []string
	for i := range 3 {
		s, err := run.Place(run.Config{Binary: binary, Name: fmt.Sprint("m", i), Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, fmt.Sprintf("127.77.0.%d", i+1))
		s.Client = addresses[i] + ":" + port
		members, pairs = append(members, s), append(pairs, fmt.Sprintf("m%d=%s", i, s.PeerURL()))
	}
	for _, s := range members {
		s.Join(strings.Join(pairs, ","))
		start(t, s)
	}
	zone := names.Zone{Addresses: map[string]string{"kv.test": strings.Join(addresses, " ")}}
	return members, "http://kv.test:" + port, zone.Believe(t)
}

// TestOneName: an endpoint that is one name for three members is all that a client needs. Each of them in turn is killed, or falls
// silent, whichever it was talking to: calls are answered in their time, and what goes on for a while - a watch, a lease kept alive,
// a lock - goes on. A watch ends, as etcd's tool lets it end, if it comes to a member that knows of no leader yet.
func TestOneName(t *testing.T) {
	skipUnlessRoot(t)
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	t.Parallel()
	members, url, within := startNamed(t, run.Holdfast(t))
	tool := &cli.Tool{Path: oursAsEtcdctl(t), Within: within, Server: members[0], Dir: t.TempDir()}
	ask := func(args ...string) string {
		t.Helper()
		for {
			out := tool.Output(t, cli.Call{Args: append([]string{"--endpoints=" + url, "--dial-timeout=1s"}, args...)})
			if text, ok := strings.CutPrefix(out, "exit 0\n"); ok {
				return text
			}
			if !strings.Contains(out, "previous leader failure") { // what was under way when a leader is lost is for the caller to decide
				t.Fatalf("%q: %s", args, out)
			}
		}
	}
	for _, s := range members {
		(&cluster{}).await(t, s)
	}
	var watch *process
	lock := begin(t, tool, "lock", "mine", "--ttl=60", "--endpoints="+url)
	lease := strings.Fields(ask("lease", "grant", "60"))[1]
	kept := begin(t, tool, "lease", "keep-alive", lease, "--endpoints="+url)
	lock.await(t, "mine/")
	lost := members
	if !*long {
		lost = members[:1]
	}
	for i, s := range lost {
		for _, lose := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
			what := fmt.Sprintf("%d without %s", i, lose)
			if watch == nil || watch.ended() {
				watch = begin(t, tool, "watch", "k", "--endpoints="+url)
				for n := 0; !strings.Contains(watch.text(), "it is open"); n++ {
					ask("put", "k", fmt.Sprint("it is open ", n))
				}
			}
			if lose == syscall.SIGKILL {
				s.Kill()
			} else {
				s.Signal(lose)
			}
			began := time.Now()
			for range 3 { // a connection each
				ask("put", "k", what)
			}
			if got := ask("get", "k", "--print-value-only"); got != what+"\n" {
				t.Errorf("%s: %q", what, got)
			}
			ask("member", "list")
			ask("endpoint", "health")
			ask("lease", "timetolive", lease)
			watch.await(t, what, "etcdserver: no leader")
			t.Logf("%s: %v", what, time.Since(began))
			if lose == syscall.SIGKILL {
				if err := s.Restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			} else {
				s.Signal(syscall.SIGCONT)
				(&cluster{}).await(t, s)
			}
		}
	}
	for what, p := range map[string]*process{"the lock": lock, "the lease": kept} {
		if p.ended() {
			t.Errorf("%s has ended: %s", what, p.text())
		}
	}
}

// process is a tool that goes on for a while.
type process struct {
	mu   sync.Mutex // guards said
	said strings.Builder
	done chan struct{} // closed when it has ended
}

// begin starts a tool, which is killed with the test.
func begin(t *testing.T, tool *cli.Tool, args ...string) *process {
	t.Helper()
	argv := slices.Concat(tool.Within, []string{tool.Path}, args)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	p := &process{done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the test's context, which kills the process
		_ = cmd.Wait() // it is killed
		close(p.done)
	}()
	t.Cleanup(func() { <-p.done })
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// await returns once the process has said one of these words.
func (p *process) await(t *testing.T, words ...string) {
	t.Helper()
	said := func() bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(p.text(), w) })
	}
	for deadline := time.Now().Add(time.Minute); !said(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not say %q, but %s", words, p.text())
		}
	}
}
