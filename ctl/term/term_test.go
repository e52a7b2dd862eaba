package term

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/test/pty"
)

// TestOnlyATerminalIsPainted: a file gets plain words, a terminal colours unless NO_COLOR or TERM=dumb says otherwise.
func TestOnlyATerminalIsPainted(t *testing.T) {
	_, tty := pty.Open(t)
	plain, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	env := func(pairs ...string) func(string) string {
		return func(name string) string {
			for _, p := range pairs {
				if value, ok := strings.CutPrefix(p, name+"="); ok {
					return value
				}
			}
			return ""
		}
	}
	for _, c := range []struct {
		to   io.Writer
		env  func(string) string
		want string
	}{
		{tty, env("TERM=xterm"), "\x1b[31mno\x1b[0m"},
		{tty, env("TERM=xterm", "NO_COLOR=1"), "no"},
		{tty, env("TERM=dumb"), "no"},
		{plain, env("TERM=xterm"), "no"},
		{new(bytes.Buffer), env("TERM=xterm"), "no"},
	} {
		if got := PaintFor(c.to, c.env).Bad("no"); got != c.want {
			t.Errorf("%T: %q, want %q", c.to, got, c.want)
		}
	}
}

// TestProgressIsSilentWithoutATerminal, and counts all the same.
func TestProgressIsSilentWithoutATerminal(t *testing.T) {
	var out, copied bytes.Buffer
	p := NewProgress(&out, "copying", 10, Bytes)
	if _, err := io.Copy(p.Writer(&copied), p.Reader(strings.NewReader("0123456789"))); err != nil {
		t.Fatal(err)
	}
	p.SetTotal(20)
	p.Done()
	if out.Len() != 0 || copied.String() != "0123456789" {
		t.Fatalf("wrote %q to nobody, copied %q", &out, &copied)
	}
}

// TestProgressShowsRateAndRest draws bars whose total is known, not known, learned later, and wrong.
func TestProgressShowsRateAndRest(t *testing.T) {
	before := runtime.NumGoroutine()
	draw := func(total int64, unit Unit, work func(*Progress)) string {
		var out bytes.Buffer
		p := newProgress(&out, "saving", total, unit)
		work(p)
		p.Done()
		return out.String()
	}
	for _, c := range []struct {
		name string
		out  string
		want []string
	}{
		{"known", draw(4096, Bytes, func(p *Progress) { p.Add(1024); p.Add(3072) }), []string{"saving", "100%", "4.0/4.0 KiB", "/s"}},
		{"unknown", draw(0, Bytes, func(p *Progress) { p.Add(2048) }), []string{"saving", "2.0 KiB", "/s"}},
		{"learned", draw(0, Keys, func(p *Progress) { p.SetTotal(4); p.Add(4) }), []string{"100%", "4/4", "keys/"}},
		{"wrong", draw(2, Steps, func(p *Progress) { p.Add(5); p.Add(1) }), []string{"saving", "100%"}},
	} {
		for _, want := range c.want {
			if !strings.Contains(c.out, want) {
				t.Errorf("%s: %q lacks %q", c.name, c.out, want)
			}
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines after drawing, %d before", after, before)
	}
}

// TestPasswordIsNotShown types a password at a terminal and looks at what the terminal shows.
func TestPasswordIsNotShown(t *testing.T) {
	end, tty := pty.Open(t)
	type answer struct {
		typed string
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		typed, err := Password(tty, tty, "Password: ")
		got <- answer{typed, err}
	}()
	shown := make([]byte, len("Password: "))
	if _, err := io.ReadFull(end, shown); err != nil {
		t.Fatal(err)
	}
	awaitNoEcho(t, tty)
	fmt.Fprintln(end, "secret")
	if a := <-got; a.err != nil || a.typed != "secret" {
		t.Fatalf("got %q, %v", a.typed, a.err)
	}
	rest := make([]byte, 64)
	n, err := end.Read(rest)
	if err != nil || strings.Contains(string(rest[:n]), "secret") || string(shown) != "Password: " {
		t.Fatalf("the terminal showed %q and %q (%v)", shown, rest[:n], err)
	}
	if _, err := Password(strings.NewReader("secret\n"), io.Discard, ""); !errors.Is(err, ErrNobody) {
		t.Fatalf("a pipe was asked: %v", err)
	}
}

// awaitNoEcho waits until the terminal shows no more what is typed.
func awaitNoEcho(t *testing.T, tty *os.File) {
	t.Helper()
	for {
		state, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		if state.Lflag&unix.ECHO == 0 {
			return
		}
		runtime.Gosched()
	}
}

func TestConfirm(t *testing.T) {
	for typed, want := range map[string]bool{"y\n": true, "Yes\n": true, "y": true, "\n": false, "": false, "no\n": false, "yesterday\n": false} {
		got, err := confirm(strings.NewReader(typed), io.Discard, "Go on?")
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", typed, got, err)
		}
	}
	if _, err := Confirm(strings.NewReader("y\n"), io.Discard, "Go on?"); !errors.Is(err, ErrNobody) {
		t.Errorf("a pipe was asked: %v", err)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 3 << 30: "3.0 GiB", 1 << 62: "4.0 EiB"} {
		if got := Size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
