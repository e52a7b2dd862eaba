package hosts

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

// unit is what the document calls the service.
const unit = "etcd3.service"

// ips are the addresses of the document's nodes.
var ips = []string{"10.64.10.228", "10.64.14.233", "10.64.12.111"}

// document is a file of the installation by hand, word for word.
func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// bootThree boots the three nodes with the binaries, the environment file and the unit where the document puts them. Only NODE_IP
// differs, as the document says.
func bootThree(t *testing.T) []*Host {
	t.Helper()
	network := New(t)
	var hosts []*Host
	for i, ip := range ips {
		env := strings.Replace(document(t, "etcd.conf"), "\nNODE_IP="+ips[0]+"\n", "\nNODE_IP="+ip+"\n", 1)
		hosts = append(hosts, network.Boot(fmt.Sprint("node", i+1), ip,
			File{Path: "/usr/local/sbin/etcd3", From: run.Holdfast(t), Mode: 0o755},
			File{Path: "/usr/local/sbin/etcdctl", From: etcd.Binary(t, "etcdctl"), Mode: 0o755},
			File{Path: "/etc/etcd.conf", Text: env, Mode: 0o644},
			File{Path: "/etc/systemd/system/" + unit, Text: document(t, unit), Mode: 0o644},
		))
		hosts[i].Do("mkdir", "/var/lib/storageos-etcd")
		hosts[i].Do("systemctl", "daemon-reload")
		hosts[i].Do("systemctl", "enable", unit)
	}
	return hosts
}

// active waits until the unit is.
func (h *Host) active() {
	h.t.Helper()
	h.Await(unit, func() error {
		if state := h.Show(unit, "ActiveState"); state != "active" {
			return fmt.Errorf("%s: %s", state, h.Show(unit, "StatusText"))
		}
		return nil
	})
}

// ctl runs etcdctl as the document does.
func (h *Host) ctl(args ...string) (string, error) {
	return h.Try(append([]string{"env", "ETCDCTL_API=3", "/usr/local/sbin/etcdctl", "--endpoints=http://127.0.0.1:2379"}, args...)...)
}

func (h *Host) mustCtl(args ...string) string {
	h.t.Helper()
	out, err := h.ctl(args...)
	if err != nil {
		h.t.Fatalf("%s: etcdctl %v: %v\n%s\n%s", h.Name, args, err, out, h.log())
	}
	return out
}

// log is what the unit has said lately.
func (h *Host) log() string {
	out, err := h.Try("journalctl", "--unit", unit, "--output=cat", "--lines=40")
	return fmt.Sprint(out, err)
}

// TestB10B11Units installs three nodes as the document does, with its environment file (B10) and its unit (B11), and does to them
// what happens to services.
func TestB10B11Units(t *testing.T) {
	hosts := bootThree(t)
	t.Run("B11 a founder alone is activating", func(t *testing.T) {
		h := hosts[0]
		h.Do("systemctl", "start", "--no-block", unit)
		h.Await("its words", func() error {
			if text := h.Show(unit, "StatusText"); !strings.Contains(text, "waits for a majority") {
				return errors.New(text)
			}
			return nil
		})
		if state := h.Show(unit, "ActiveState"); state != "activating" {
			t.Errorf("alone the unit is %s", state)
		}
	})
	for _, h := range hosts[1:] {
		h.Do("systemctl", "start", "--no-block", unit)
	}
	for _, h := range hosts {
		h.active()
	}
	t.Run("B10 the environment file names the members", func(t *testing.T) {
		list := hosts[1].mustCtl("member", "list")
		for _, ip := range ips {
			if want := fmt.Sprintf("started, etcd-%s, http://%[1]s:2380, http://%[1]s:2379, false", ip); !strings.Contains(list, want) {
				t.Errorf("no member %q in\n%s", want, list)
			}
		}
	})
	t.Run("B11 the status says who leads", func(t *testing.T) {
		leaders := 0
		for _, h := range hosts {
			text := h.Show(unit, "StatusText")
			if strings.Contains(text, "leads in term") {
				leaders++
			} else if !strings.Contains(text, "serves clients, and follows") {
				t.Errorf("%s: %q", h.Name, text)
			}
		}
		if leaders != 1 {
			t.Errorf("%d members say that they lead", leaders)
		}
	})
	t.Run("B11 the real limit of files is told", func(t *testing.T) { realLimit(t, hosts[0]) })
	t.Run("B11 a killed member comes back", func(t *testing.T) { killed(t, hosts) })
	t.Run("B11 a member that hangs is started again", func(t *testing.T) { hanging(t, hosts[2]) })
	t.Run("B11 a stop is a success", func(t *testing.T) {
		h := hosts[1]
		h.Do("systemctl", "stop", unit)
		if state, result := h.Show(unit, "ActiveState"), h.Show(unit, "Result"); state != "inactive" || result != "success" {
			t.Errorf("after a stop the unit is %s, with %s", state, result)
		}
		if out := h.Do("journalctl", "--unit", unit, "--output=cat"); !strings.Contains(out, `"msg":"received signal; shutting down"`) {
			t.Errorf("it said\n%s", out)
		}
	})
}

// realLimit compares the limit of open files that the kernel has for the process with the log and the metrics. The unit asks for
// 40,000; a machine may give less.
func realLimit(t *testing.T, h *Host) {
	var soft string
	for line := range strings.Lines(h.Do("cat", "/proc/"+h.Show(unit, "MainPID")+"/limits")) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found {
			soft = strings.Fields(rest)[0]
		}
	}
	t.Logf("of 40000 open files %s are allowed", soft)
	if out := h.Do("journalctl", "--unit", unit, "--output=cat"); !strings.Contains(out, `"msg":"open files are limited","limit":`+soft+",") {
		t.Errorf("the log does not say that %s files may be open", soft)
	}
	var limit float64
	for line := range strings.Lines(h.Do("curl", "--silent", "http://127.0.0.1:2379/metrics")) {
		if _, err := fmt.Sscanf(line, "process_max_fds %g", &limit); err == nil {
			break
		}
	}
	if fmt.Sprint(int(limit)) != soft {
		t.Errorf("the metrics say that %v files may be open, the kernel %s", limit, soft)
	}
}

// killed ends a member as a crash would: the others go on, systemd starts it again, and it has what was written meanwhile.
func killed(t *testing.T, hosts []*Host) {
	victim, other := hosts[0], hosts[1]
	id := strings.Fields(victim.mustCtl("endpoint", "status", "--write-out=simple"))[1]
	restarts := victim.Number(unit, "NRestarts")
	victim.Do("systemctl", "kill", "--signal=KILL", unit)
	other.Await("a write without it", func() error {
		_, err := other.ctl("put", "while-it-was-away", "1")
		return err
	})
	victim.Await("the restart", func() error {
		if n := victim.Number(unit, "NRestarts"); n != restarts+1 {
			return fmt.Errorf("%d restarts", n)
		}
		return nil
	})
	victim.active()
	if got := victim.mustCtl("get", "while-it-was-away", "--print-value-only"); got != "1" {
		t.Errorf("it reads %q", got)
	}
	if got := strings.Fields(victim.mustCtl("endpoint", "status", "--write-out=simple"))[1]; got != id {
		t.Errorf("it came back as %s, and was %s", got, id)
	}
}

// hanging gives the unit a watchdog and stops the process: systemd hears nothing more of it, ends it and starts it again.
func hanging(t *testing.T, h *Host) {
	h.Do("mkdir", "-p", "/etc/systemd/system/"+unit+".d")
	h.Do("sh", "-c", `printf '[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n' >/etc/systemd/system/`+unit+".d/watchdog.conf")
	h.Do("systemctl", "daemon-reload")
	h.Do("systemctl", "restart", unit)
	restarts := h.Number(unit, "NRestarts")
	pid := h.Show(unit, "MainPID")
	h.Do("sleep", "8") // more than two watchdogs: it lives
	if got := h.Show(unit, "MainPID"); got != pid {
		t.Fatalf("the watchdog has ended a member that works\n%s", h.log())
	}
	h.Do("systemctl", "kill", "--signal=STOP", unit)
	h.Await("the watchdog", func() error {
		if n := h.Number(unit, "NRestarts"); n != restarts+1 {
			return fmt.Errorf("%d restarts, result %s", n, h.Show(unit, "Result"))
		}
		return nil
	})
	h.active()
	if out := h.Do("journalctl", "--unit", unit, "--output=cat"); !strings.Contains(out, "Watchdog timeout") {
		t.Errorf("systemd said\n%s", out)
	}
}
