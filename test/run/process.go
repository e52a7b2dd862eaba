package run

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// stopTimeout bounds a graceful stop; afterwards the process is killed and the stop counts as failed.
const stopTimeout = 20 * time.Second

// Process is one program that writes a log, run again and again, at most once at a time. The zero value with a Log is ready.
type Process struct {
	Log string // path of the log: what every start wrote, one after the other

	cmd  *exec.Cmd     // nil when no process runs
	done chan struct{} // closed when cmd has ended
}

// Exec starts argv with env added to the environment of the test. The previous process must have ended.
func (p *Process) Exec(argv, env []string) error {
	if p.cmd != nil {
		panic(fmt.Sprintf("run: process %d still runs", p.cmd.Process.Pid))
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	defer log.Close() // the child holds its own copy
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a killed test leaves nothing behind
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan<- struct{}) {
		_ = cmd.Wait() // the exit code of a server that was told to end says nothing
		close(done)
	}(p.done)
	return nil
}

// Kill ends the process as a power cut would end it and waits until it is gone. It does nothing when none runs.
func (p *Process) Kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // fails only when the process is gone already
	<-p.done
	p.cmd = nil
}

// Stop asks the process to end and waits for it; one that does not end is killed and reported.
func (p *Process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		p.cmd = nil
		return nil
	case <-time.After(stopTimeout):
		argv := p.cmd.Args
		p.Kill()
		return fmt.Errorf("stop %s: still there after %s", argv[0], stopTimeout)
	}
}

// Signal sends a signal to the process, if one runs.
func (p *Process) Signal(sig syscall.Signal) {
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(sig) // fails only when the process is gone already
	}
}

// Pid returns the id of the running process, 0 when none runs.
func (p *Process) Pid() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Ended is closed once the process started last has ended, by whatever cause.
func (p *Process) Ended() <-chan struct{} { return p.done }

// LogTail returns the last n lines the program wrote.
func (p *Process) LogTail(n int) string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
