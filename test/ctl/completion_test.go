package ctl

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/test/etcd"
)

// asked are lines at whose end the tabulator is pressed, and what must then be among the offers.
var asked = map[string][]string{
	"etcdctl ":                          {"get", "put", "watch", "endpoint", "member", "snapshot", "completion"},
	"etcdctl mem":                       {"member"},
	"etcdctl member ":                   {"add", "list", "promote", "remove", "update"},
	"etcdctl get --so":                  {"--sort-by"},
	"etcdctl get --prefix --order=":     {"ASCEND", "DESCEND"},
	"etcdctl get --sort-by ":            {"CREATE", "KEY", "MODIFY", "VALUE", "VERSION"},
	"etcdctl get --consistency=":        {"l", "s"},
	"etcdctl endpoint status -w ":       {"fields", "json", "protobuf", "simple", "table"},
	"etcdctl check perf --load ":        {"small", "medium", "large", "xLarge"},
	"etcdctl check ":                    {"perf", "datascale"},
	"etcdctl role grant-permission --f": {"--from-key"},
	"etcdctl completion ":               {"bash", "zsh", "fish", "powershell"},
}

// inBash sources a tool's script and completes a line. What readline does there, and the functions of the package bash-completion that tell a
// script the words, it does itself.
const inBash = `
source <(etcdctl completion bash)
_get_comp_words_by_ref() {
	read -r -a words <<<"$LINE"
	[[ $LINE == *" " ]] && words+=("")
	cword=$((${#words[@]} - 1)) cur=${words[cword]} prev=${words[cword - 1]}
}
unset -f _init_completion
compopt() { :; }
_filedir() { :; }
spec=$(complete -p etcdctl)
fun=${spec##*-F }; fun=${fun%% *}
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_TYPE=9 COMP_KEY=9
"$fun"
printf '%s\n' "${COMPREPLY[@]}"
`

// TestCompletion sources the scripts of both tools in a shell and presses the tabulator: what etcd's tool offers, ours offers too.
func TestCompletion(t *testing.T) {
	complete := func(program, line string) []string {
		cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-c", inBash)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "LINE="+line)
		var said strings.Builder
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil || said.Len() > 0 {
			t.Fatalf("%s: %v\n%s%s", line, err, out, said.String())
		}
		var offers []string
		for offer := range strings.FieldsSeq(string(out)) {
			offer = strings.TrimSuffix(offer, "=")
			offers = append(offers, offer[strings.IndexByte(offer, '=')+1:]) // some scripts write the flag before its value
		}
		return offers
	}
	for line, wanted := range asked {
		theirs, got := complete(etcd.Binary(t, "etcdctl"), line), complete(oursAsEtcdctl(t), line)
		t.Logf("%s: etcd's %q, ours %q", line, theirs, got)
		for _, want := range wanted {
			if !slices.Contains(got, want) {
				t.Errorf("%s: offers %q, not %q", line, got, want)
			}
		}
	}
}
