package ctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/test/cli"
	"holdfast/test/etcd"
	"holdfast/test/pty"
	"holdfast/test/run"
)

// typed is what a person types when a question appears.
type typed struct{ question, answer string }

// sit runs a program with a person before it, who answers each question, and returns all that the terminal shows, and how it ended.
func sit(t *testing.T, env []string, argv []string, answers ...typed) (shown string, exit error) {
	t.Helper()
	end, tty := pty.Open(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close() // the program has its own: when that is gone, reading ends
	read := make(chan string, 1)
	go func() { // ends with the terminal
		var all strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := end.Read(buf)
			all.Write(buf[:n])
			for len(answers) > 0 && strings.Contains(all.String(), answers[0].question) {
				time.Sleep(50 * time.Millisecond) // the program turns the echo off behind its question
				_, _ = end.WriteString(answers[0].answer)
				answers = answers[1:]
			}
			if err != nil {
				read <- all.String()
				return
			}
		}
	}()
	exit = cmd.Wait()
	if ctx.Err() != nil {
		t.Errorf("%q does not end", argv)
	}
	return <-read, exit // nobody has the terminal any more: what is left is read, and then nothing
}

// TestAnswers types passwords on a terminal: both tools ask the same, show nothing of what is typed, and do the same with it.
func TestAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	const again = "again for confirmation: "
	cases := []struct {
		line    string
		answers []typed
	}{
		{"user add ann", []typed{{"Password of ann: ", "secret\n"}, {again, "secret\n"}}},
		{"user add bob", []typed{{"Password of bob: ", "secret\n"}, {again, "other\n"}}},
		{"user add bob", []typed{{"Password of bob: ", "\n"}}},
		{"user passwd ann", []typed{{"Password of ann: ", "secret2\n"}, {again, "secret2\n"}}},
		{"user add root:pw", nil},
		{"user list --user=ann", []typed{{"Password: ", "secret2\n"}}},
		{"make-mirror 127.0.0.1:1 --dest-user=ann --dest-cert=none", []typed{{"Destination Password: ", "secret2\n"}}},
		{"auth enable", nil},
		{"get a --user=root", []typed{{"Password: ", "pw\n"}}},
		{"get a --user=ann", []typed{{"Password: ", "secret\n"}}}, // the old one
	}
	var tools [2]*cli.Tool
	for i, path := range []string{etcd.Binary(t, "etcdctl"), oursAsEtcdctl(t)} {
		tools[i] = cli.New(t, path, serve(t, run.Holdfast(t), []func(*run.Config){flags("--bcrypt-cost=4")}))
	}
	for _, c := range cases {
		var said [2]string
		for i, tool := range tools {
			shown, exit := sit(t, nil, append([]string{tool.Path, "--endpoints=" + tool.Server.Client}, strings.Fields(c.line)...), c.answers...)
			if strings.Contains(shown, "secret") {
				t.Errorf("%s shows the password: %q", c.line, shown)
			}
			for _, d := range append(readDifferences(t).texts, regexp.MustCompile(`(?m)^(hint: .*|\{"level".*)\n`)) {
				shown = d.ReplaceAllString(strings.ReplaceAll(shown, "\r\n", "\n"), "")
			}
			code := 0
			var ended *exec.ExitError
			if errors.As(exit, &ended) {
				code = ended.ExitCode()
			}
			said[i] = strings.ReplaceAll(shown, tool.Server.Client, "ENDPOINT") + fmt.Sprint("exit ", code)
		}
		if said[0] != said[1] {
			t.Errorf("%s\n--- etcd's etcdctl\n%s\n--- ours\n%s", c.line, said[0], said[1])
		}
	}
}

// TestBars: what takes a while draws a bar with a rate on a terminal, and nothing of the kind for a program. Colours too are for people.
func TestBars(t *testing.T) {
	if testing.Short() {
		t.Skip("starts servers and tools")
	}
	s := serve(t, run.Holdfast(t), nil)
	dir := t.TempDir()
	program := run.Holdfast(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	at := "--endpoints=" + s.Client
	tool := cli.New(t, oursAsEtcdctl(t), s)
	for range 3 {
		if said := tool.Output(t, cli.Call{Args: []string{"put", "k"}, Stdin: strings.Repeat("x", 1<<20)}); said != "exit 0\nOK\n" {
			t.Fatal(said)
		}
	}
	drawn := regexp.MustCompile(`/s|keys/|it/`)
	for _, c := range []struct {
		argv   []string
		before func() // the second run
	}{
		{[]string{"ctl", at, "snapshot", "save", file("s.db")}, nil},
		{[]string{"utl", "snapshot", "restore", file("s.db"), "--data-dir", file("restored")}, func() { os.RemoveAll(file("restored")) }},
		{[]string{"utl", "import", file("restored"), "--data-dir", file("imported")}, func() { os.RemoveAll(file("imported")) }},
		{[]string{"utl", "export", file("imported"), "--data-dir", file("exported")}, func() { os.RemoveAll(file("exported")) }},
		{[]string{"ctl", at, "check", "datascale"}, nil},
	} {
		shown, exit := sit(t, nil, append([]string{program}, c.argv...))
		if exit != nil || !drawn.MatchString(shown) || !strings.Contains(shown, "\r") {
			t.Errorf("%q on a terminal: %v, no bar in %q", c.argv, exit, shown)
		}
		if c.before != nil {
			c.before()
		}
		out, err := exec.CommandContext(t.Context(), program, c.argv...).CombinedOutput()
		if err != nil || strings.ContainsAny(string(out), "\r\x1b") {
			t.Errorf("%q for a program: %v, %q", c.argv, err, out)
		}
	}
	paint, _ := sit(t, nil, []string{program, "ctl", "check", "tls", "--cert-file=none"})
	plain, _ := sit(t, []string{"NO_COLOR=1"}, []string{program, "ctl", "check", "tls", "--cert-file=none"})
	piped, _ := exec.CommandContext(t.Context(), program, "ctl", "check", "tls", "--cert-file=none").CombinedOutput()
	if !strings.Contains(paint, "\x1b[") || strings.Contains(plain, "\x1b[") || strings.Contains(string(piped), "\x1b[") {
		t.Errorf("on a terminal %q, without colours %q, for a program %q", paint, plain, piped)
	}
}
