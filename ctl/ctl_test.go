package ctl

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/grpclog"
)

// result is all that a command shows.
type result struct {
	code     int
	out, err string
}

// world is that of the process without the log of gRPC: tests run many commands in one process.
func world(args ...string) Env {
	env := System("etcdctl", args)
	env.LogGRPC = func(grpclog.LoggerV2) {}
	return env
}

// call runs a command line in a world without a network's names, whose clock does not wait.
func call(t *testing.T, stdin string, environ []string, args ...string) result {
	t.Helper()
	var out, stderr bytes.Buffer
	env := world(args...)
	env.Stdin, env.Stdout, env.Stderr, env.Environ = strings.NewReader(stdin), &out, &stderr, environ
	code := Main(t.Context(), env)
	return result{code, out.String(), stderr.String()}
}

// nobody is an endpoint at which nobody answers.
const nobody = "--endpoints=127.0.0.1:1"

// TestEnvironment: a variable sets its flag, one that nothing knows is named without its value, and one that a flag
// contradicts, or that cannot be read, is refused.
func TestEnvironment(t *testing.T) {
	short := "--command-timeout=1ms"
	for _, c := range []struct {
		environ []string
		args    []string
		code    int
		says    string
	}{
		{[]string{"ETCDCTL_API=3", "ETCDCTL_WATCH_KEY=x"}, []string{"get", "a", nobody, short}, exitError, "Error: context deadline exceeded"},
		{[]string{"ETCDCTL_WRITE_OUT=xml"}, []string{"get", "a", nobody}, exitBadFeature, "Error: unsupported output format\n"},
		{[]string{"ETCDCTL_ENDPOINTS=127.0.0.1:2"}, []string{"get", "a", nobody}, exitError, "Error: conflicting environment variable is shadowed"},
		{[]string{"ETCDCTL_DIAL_TIMEOUT=soon"}, []string{"get", "a", nobody}, exitBadArgs, `Error: invalid value "soon" for ETCDCTL_DIAL_TIMEOUT`},
		{[]string{"ETCDCTL_PASSWORT=hidden"}, []string{"get", "a", nobody, short}, exitError, "Warning: unrecognized environment variable ETCDCTL_PASSWORT\n"},
		{[]string{"ETCDCTL_USER=me:hidden"}, []string{"get", "a", nobody, "--dial-timeout=1ms", "--debug"}, exitBadConnection, "ETCDCTL_USER=(not shown)"},
	} {
		got := call(t, "", c.environ, c.args...)
		if got.code != c.code || !strings.Contains(got.err, c.says) || strings.Contains(got.err, "hidden") {
			t.Errorf("%v %v: exit %d, want %d and %q:\n%s", c.environ, c.args, got.code, c.code, c.says, got.err)
		}
		if strings.Contains(got.err, "ETCDCTL_API") && !strings.Contains(got.err, "ETCDCTL_DEBUG") {
			t.Errorf("speaks of ETCDCTL_API: %s", got.err)
		}
	}
}

// TestPause: a range is deleted only after the pause, which --range, or a single key, does without; who interrupts deletes nothing.
func TestPause(t *testing.T) {
	for _, c := range []struct {
		args  []string
		pause bool
	}{{[]string{"a", "b"}, true}, {[]string{"a", "b", "--range"}, false}, {[]string{"a"}, false}, {[]string{"a", "--prefix"}, false}} {
		ctx, interrupt := context.WithCancel(t.Context())
		paused := false
		var stderr bytes.Buffer
		env := world(append([]string{"del", nobody, "--command-timeout=1ms"}, c.args...)...)
		env.Stderr = &stderr
		env.Sleep = func(ctx context.Context, _ time.Duration) error {
			paused = true
			interrupt()
			return ctx.Err()
		}
		code := Main(ctx, env)
		interrupt()
		if code != exitError || paused != c.pause || strings.Contains(stderr.String(), "Warning: Keys between") != c.pause {
			t.Errorf("del %v: exit %d, paused %t: %s", c.args, code, paused, &stderr)
		}
	}
}

// TestCompletion: the script is for a program's name, also when the tool was called as a command of another.
func TestCompletion(t *testing.T) {
	for _, program := range []string{"etcdctl", "holdfast ctl"} {
		for _, shell := range []string{"bash", "zsh", "fish"} {
			var out bytes.Buffer
			env := System(program, []string{"completion", shell})
			env.Stdout = &out
			if code := Main(t.Context(), env); code != 0 || !strings.Contains(out.String(), "etcdctl") || strings.Contains(out.String(), "_holdfast") {
				t.Errorf("%s completion %s: exit %d:\n%.300s", program, shell, code, &out)
			}
		}
	}
}
