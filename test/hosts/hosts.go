// Package hosts boots machines for tests: systemd in namespaces of its own, joined by a network of their own.
//
// Each sees the machine below it, and what it changes is gone when it ends. It ends with the test, also with one that is killed.
//
//	Errors  every failure ends the test; what is missing on this machine skips it, with the reason
package hosts

import (
	"bufio"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

//go:embed boot.sh
var bootScript string

// patience is far more than anything takes on a busy machine.
const patience = 2 * time.Minute

// Network is a switch that joins hosts, in a name space of its own.
type Network struct {
	t     *testing.T
	pid   string
	hosts int
}

// Host is a machine that systemd has booted.
type Host struct {
	Name, IP string

	t   *testing.T
	pid string // of its systemd
}

// New makes a network, or skips the test where hosts cannot be had.
func New(t *testing.T) *Network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("boots hosts, which needs root")
	}
	for _, path := range []string{"/lib/systemd/systemd", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(path); err != nil {
			t.Skipf("boots hosts with systemd, and this machine has no %s", path)
		}
	}
	n := &Network{t: t}
	n.pid = launch(t, "unshare", "--net", "sh", "-euc", "ip link add sw type bridge; ip link set sw up; echo $$; cat >/dev/null")
	return n
}

// launch starts a program that prints a line and ends when its standard input is closed, at the latest at the end of the test.
func launch(t *testing.T, argv ...string) (line string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	words := new(strings.Builder)
	cmd.Stderr = words
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", argv[0], err, words)
		}
	})
	line, err = bufio.NewReader(out).ReadString('\n')
	if line = strings.TrimSpace(line); err != nil || line == "" {
		t.Fatalf("%s: %v\n%s", argv[0], err, words)
	}
	return line
}

// Boot boots a host without services. files are put into it before, by their paths there; a path that is a source on this machine is
// copied.
func (n *Network) Boot(name, ip string, files ...File) *Host {
	n.t.Helper()
	h := n.boot("basic.target", name, ip, files)
	h.Await("systemd", func() error {
		state, err := h.Try("systemctl", "is-system-running")
		if state == "running" || state == "degraded" { // whatever else is installed here may fail
			return nil
		}
		return fmt.Errorf("%s, %v", state, err)
	})
	return h
}

// BootServices boots a host with the services that are enabled, and does not wait for them. As on many machines its network is there
// only after some of them have begun.
func (n *Network) BootServices(name, ip string, files ...File) *Host {
	n.t.Helper()
	h := n.boot("multi-user.target", name, ip, files)
	h.Await("systemd", func() error {
		_, err := h.Try("systemctl", "show", "--property=Version")
		return err
	})
	return h
}

func (n *Network) boot(target, name, ip string, files []File) *Host {
	n.t.Helper()
	root := n.t.TempDir()
	for _, dir := range []string{"layer", "files"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, f := range files {
		if err := f.put(filepath.Join(root, "files")); err != nil {
			n.t.Fatal(err)
		}
	}
	n.hosts++
	group := fmt.Sprintf("holdfast-%d-%d", os.Getpid(), n.hosts)
	h := &Host{Name: name, IP: ip, t: n.t, pid: launch(n.t, "sh", "-c", bootScript, "sh", group, root, target)}
	n.t.Cleanup(func() {
		if console, err := os.ReadFile(filepath.Join(root, "console")); n.t.Failed() && err == nil {
			n.t.Logf("console of %s:\n%s", name, console)
		}
	})
	n.plug(h)
	return h
}

// plug gives the host an address in the network.
func (n *Network) plug(h *Host) {
	n.t.Helper()
	port := fmt.Sprint("h", n.hosts)
	for _, argv := range [][]string{
		{"-t", n.pid, "-n", "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.pid},
		{"-t", n.pid, "-n", "ip", "link", "set", port, "master", "sw", "up"},
		{"-t", h.pid, "-n", "ip", "addr", "add", h.IP + "/16", "dev", "eth0"},
		{"-t", h.pid, "-n", "ip", "link", "set", "eth0", "up"},
		{"-t", h.pid, "-n", "ip", "link", "set", "lo", "up"},
	} {
		if out, err := exec.Command("nsenter", argv...).CombinedOutput(); err != nil {
			n.t.Fatalf("%v: %v\n%s", argv, err, out)
		}
	}
}

// File is something that a host has from the beginning: Text, a copy of From, or a link to To.
type File struct {
	Path           string
	Text, From, To string
	Mode           os.FileMode // of a link: nothing
}

func (f File) put(root string) (err error) {
	path := filepath.Join(root, f.Path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if f.To != "" {
		return os.Symlink(f.To, path)
	}
	if f.From == "" {
		return os.WriteFile(path, []byte(f.Text), f.Mode)
	}
	from, err := os.Open(f.From)
	if err != nil {
		return err
	}
	defer from.Close() // only read from
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, f.Mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close()
}

// Try runs a command on the host and returns what it prints, without the last line break.
func (h *Host) Try(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", h.pid, "-m", "-p", "-n", "-u", "-i", "-C"}, argv...)...)
	var words strings.Builder
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, words.String())
	}
	return strings.TrimRight(string(out), "\n"), err
}

// Do is Try, and the command must succeed.
func (h *Host) Do(argv ...string) string {
	h.t.Helper()
	out, err := h.Try(argv...)
	if err != nil {
		h.t.Fatalf("%s: %s: %v\n%s", h.Name, strings.Join(argv, " "), err, out)
	}
	return out
}

// Show is a property of a unit.
func (h *Host) Show(unit, property string) string {
	h.t.Helper()
	return h.Do("systemctl", "show", "--value", "--property="+property, unit)
}

// Number is a property of a unit that is a number.
func (h *Host) Number(unit, property string) int {
	h.t.Helper()
	n, err := strconv.Atoi(h.Show(unit, property))
	if err != nil {
		h.t.Fatalf("%s: %s of %s: %v", h.Name, property, unit, err)
	}
	return n
}

// Await waits until something holds.
func (h *Host) Await(what string, try func() error) {
	h.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s: wait for %s: %v", h.Name, what, err)
		}
	}
}
