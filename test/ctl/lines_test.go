package ctl

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/test/cli"
)

// TestCompat holds the columns of etcd 3.4 and 3.5 against those of etcd's tool of today: they are some of them, in the same order.
func TestCompat(t *testing.T) {
	columns := map[string][]int{"status": {0, 1, 2, 4, 8, 9, 10, 11, 12, 13}, "hashkv": {0, 1}}
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		theirs, ours := sides[0], sides[1]
		ours.Server = theirs.Server // the same numbers
		for what, columns := range columns {
			for _, format := range []string{"simple", "table"} {
				args := []string{"endpoint", what, "-w", format}
				want := pick(theirs.OK(t, args...), columns)
				for _, compat := range []cli.Call{{Env: []string{"HOLDFAST_CTL_COMPAT=3.5"}}, {Args: []string{"--compat=3.4"}},
					{Env: []string{"HOLDFAST_CTL_COMPAT=3.7"}, Args: []string{"--compat=3.5"}}} {
					compat.Args = append(compat.Args, args...)
					if got := pick(strings.TrimPrefix(ours.Output(t, compat), "exit 0\n"), nil); got != want {
						t.Errorf("%s: %q, want %q", compat, got, want)
					}
				}
				if got, want := ours.OK(t, append(args, "--compat=3.7")...), theirs.OK(t, args...); got != want {
					t.Errorf("--compat=3.7: %q, want %q", got, want)
				}
			}
		}
		bad := ours.Output(t, cli.Call{Args: []string{"endpoint", "status", "--compat=2"}})
		if want := "exit status 128\nError: --compat is \"2\"; it may be 3.4, 3.5, 3.6 or 3.7\n"; bad != want {
			t.Errorf("%q, want %q", bad, want)
		}
	})
}

// pick returns these columns of the cells of rows or a table; nil is all.
func pick(text string, columns []int) string {
	var out []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		cells := strings.Split(line, ", ")
		if strings.HasPrefix(line, "│") {
			cells = strings.Split(strings.Trim(line, "│"), "│")
		} else if strings.ContainsAny(line, "─") {
			continue
		}
		var picked []string
		for i, cell := range cells {
			if columns == nil {
				picked = append(picked, strings.TrimSpace(cell))
			}
			for _, c := range columns {
				if c == i {
					picked = append(picked, strings.TrimSpace(cell))
				}
			}
		}
		out = append(out, strings.Join(picked, ", "))
	}
	return strings.Join(out, "\n")
}

// shell runs a script that calls etcdctl, which is the program of the tool, and returns its standard output.
func shell(t *testing.T, tool *cli.Tool, script string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", script)
	cmd.Env = append(append(os.Environ(), "PATH="+filepath.Dir(tool.Path)+":"+os.Getenv("PATH")), env...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s%s", script, err, out, said.String())
	}
	return string(out)
}

// TestLinesOfScripts runs the command lines that people have written down: what a script greps must be where it looks.
func TestLinesOfScripts(t *testing.T) {
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		for i, tool := range sides {
			port := tool.Server.Client[strings.LastIndexByte(tool.Server.Client, ':'):]
			url := "http://localhost" + port

			// A9: a cron job takes the size out of the json, the quota out of the metrics, and has given its endpoint the path of these.
			size := shell(t, tool, "ETCDCTL_API=3 etcdctl --endpoints $URL/metrics endpoint status -wjson | grep -Eo '\"dbSize\":[0-9]*' | grep -Eo '[0-9]*'", "URL="+url)
			if !regexp.MustCompile(`^[1-9][0-9]*\n$`).MatchString(size) {
				t.Errorf("%s: the size is %q", tool.Path, size)
			}
			shell(t, tool, "ETCDCTL_API=3 etcdctl --endpoints $URL/metrics defrag | grep -q 'Finished defragmenting etcd member'", "URL="+url)
			if _, err := exec.LookPath("curl"); err != nil {
				t.Log("no curl: the quota is not looked at")
			} else if quota := shell(t, tool, `printf '%0.0f\n' "$(curl -s $URL/metrics | grep -v '^#' | grep etcd_server_quota_backend_bytes | awk '{print $2}')"`, "URL="+url); quota != "2147483648\n" {
				t.Errorf("the quota is %q", quota)
			}

			// D3: an empty password, words behind the command.
			for _, line := range []string{"etcdctl --user root: --endpoints=$URL defrag -- cluster", "etcdctl --endpoints=$URL --write-out=table endpoint status",
				"etcdctl --endpoints=$URL alarm disarm", "etcdctl --endpoints=$URL alarm list"} {
				shell(t, tool, "export ETCDCTL_API=3; "+line, "URL="+url)
			}

			// E15: endpoint, version and size.
			if i == 1 {
				got := shell(t, tool, "etcdctl endpoint status -w simple | cut -d, -f 1,3,4", "ETCDCTL_ENDPOINTS="+url, "HOLDFAST_CTL_COMPAT=3.5")
				if !regexp.MustCompile(`^` + regexp.QuoteMeta(url) + `, 3\.7\.[0-9]+, [0-9.]+ [kMG]?B\n$`).MatchString(got) {
					t.Errorf("cut: %q", got)
				}
			}

			// The revision to compact to, out of the status; then the copy of everything.
			script := `rev=$(etcdctl put a 1 >/dev/null; etcdctl endpoint status --write-out="json" | egrep -o '"revision":[0-9]*' | egrep -o '[0-9].*')
				etcdctl compact $rev; etcdctl defrag >/dev/null; etcdctl snapshot save $DIR/s.db 2>/dev/null; stat -c %a $DIR/s.db; ls $DIR`
			dir := t.TempDir()
			if got, want := shell(t, tool, script, "ETCDCTL_ENDPOINTS="+url, "DIR="+dir),
				fmt.Sprintf("compacted revision 2\nSnapshot saved at %s/s.db\nServer version 3.7.0\n600\ns.db\n", dir); got != want {
				t.Errorf("%s: %q, want %q", tool.Path, got, want)
			}
		}
	}, flags("--quota-backend-bytes=2147483648"))
}

// TestChecks runs the checks that write. Their standard output is compared, but for what they measured.
func TestChecks(t *testing.T) {
	onBothServers(t, func(t *testing.T, sides [2]*cli.Tool) {
		for _, args := range [][]string{{"check", "datascale", "--auto-compact", "--auto-defrag"}, {"check", "datascale", "--prefix=/other/", "--load=small"}} {
			if want, got := checked(t, sides[0], 0, args...), checked(t, sides[1], 0, args...); want != got {
				t.Errorf("%q\n--- etcd's etcdctl\n%s\n--- ours\n%s", args, want, got)
			}
		}
		readDifferences(t).compare(t, sides, once("get / --prefix --count-only -w fields", "put /etcdctl-check-datascale/x 1", "check datascale",
			"put /etcdctl-check-perf/x 1", "check perf"))

		// What etcd's tool does not have.
		for what, pattern := range map[string]string{
			"check latency --count=20 --limit=1m":         `^<nil>\nPASS: ENDPOINT: p50 = [0-9.a-zµ]+, p99 = [0-9.a-zµ]+, limit 1m0s\nPASS\n$`,
			"check latency --count=2 --limit=1ns":         `^exit status 1\nFAIL: ENDPOINT: p50 = .*, limit 1ns\nFAIL\n$`,
			"endpoint health --repeat=20":                 `^<nil>\nENDPOINT is healthy: successfully committed proposal: took = [^ ]+, p50 = [^ ]+, p99 = [^ ]+ of 20\n$`,
			"endpoint health --repeat=20 -w json":         `^<nil>\n\[\{"endpoint":"ENDPOINT","health":true,"took":"[^"]+","repeat":20,"p50":"[^"]+","p99":"[^"]+"\}\]\n$`,
			"endpoint health --repeat=2 --cluster=false ": `of 2\n$`,
		} {
			cmd := exec.CommandContext(t.Context(), sides[1].Path, append([]string{"--endpoints=" + sides[1].Server.Client}, strings.Fields(what)...)...)
			out, err := cmd.Output()
			got := fmt.Sprintf("%v\n%s", err, strings.ReplaceAll(string(out), sides[1].Server.Client, "ENDPOINT"))
			if !regexp.MustCompile(pattern).MatchString(got) {
				t.Errorf("%s: %q, want %s", what, got, pattern)
			}
		}
	})
}
