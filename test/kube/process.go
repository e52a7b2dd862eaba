package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// process is a program we started. Its output goes to a file, which is shown when the test fails.
type process struct {
	path string
	args []string
	log  string

	mu   sync.Mutex // guards the fields below
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has been reaped
}

// start runs the program. It may be called again after kill or stop.
func (p *process) start() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.path, err)
	}
	defer func() { _ = out.Close() }() // the child has its own descriptor
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdout, cmd.Stderr = out, out
	// A test that dies takes its children along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.path, err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	go func() { // ends with the program
		_ = cmd.Wait() // how it ended is in the log; running is what the caller asks about
		close(done)
	}()
	return nil
}

// running says whether the program has not ended.
func (p *process) running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the program with SIGKILL and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL, 10*time.Second)
}

// stop asks the program to end and kills it when it has not within wait.
func (p *process) stop(wait time.Duration) {
	if !p.signal(syscall.SIGTERM, wait) {
		p.kill()
	}
}

// signal sends s and says whether the program ended within wait.
func (p *process) signal(s syscall.Signal, wait time.Duration) bool {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.mu.Unlock()
	if cmd == nil {
		return true
	}
	_ = cmd.Process.Signal(s) // fails only when the program has ended, which is what we wait for
	select {
	case <-done:
		return true
	case <-time.After(wait):
		return false
	}
}

// tail returns the end of the program's output.
func (p *process) tail() string {
	const lengthMax = 2500
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-lengthMax):])
}

// freePorts returns n loopback ports that were free a moment ago. They lie below those that the kernel hands out to
// connections: one of the hundreds that look for a killed store would take its port sooner or later.
func freePorts(n int) ([]int, error) {
	const first, last, attemptsMax = 15_000, 32_000, 1000
	var ports []int
	for range attemptsMax {
		l, err := net.Listen("tcp", loopback(first+rand.IntN(last-first)))
		if err != nil {
			continue // taken
		}
		defer func() { _ = l.Close() }() // held until all are chosen, so that they differ
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		if len(ports) == n {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports: %d of them after %d attempts", n, len(ports), attemptsMax)
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

// verdict is an error that no repetition can heal: the side did something it must not.
type verdict struct{ error }

func wrong(format string, args ...any) error { return verdict{fmt.Errorf(format, args...)} }

// until calls try every 50 ms until it succeeds or finds something wrong, and returns its last error when ctx ends.
func until(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if _, ok := errors.AsType[verdict](err); ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (gave up: %w)", what, err, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
