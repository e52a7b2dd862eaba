package cluster

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"holdfast/test/etcd"
	"holdfast/test/run"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "the first round; 0 draws one")
	roundsFlag  = flag.Int("rounds", roundsShort, "how many rounds")
	programFlag = flag.String("program", "holdfast", "what the members run: holdfast or etcd")
)

// roundsShort is the number of rounds in the short form.
const roundsShort = 5

// long tells that there is time for more than the short form.
func long() bool { return *roundsFlag > roundsShort }

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if err := removeDisks(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// chosen is the program that the flag names.
func chosen(t testing.TB) program {
	t.Helper()
	switch *programFlag {
	case "etcd":
		return etcdProgram(t)
	case "holdfast":
		return holdfastProgram(t)
	}
	t.Fatalf("-program: there is no %q", *programFlag)
	return program{}
}

func etcdProgram(t testing.TB) program {
	return program{name: "etcd", binary: etcd.Binary(t, "etcd")}
}

// holdfastProgram is the binary as it is shipped.
func holdfastProgram(t testing.TB) program {
	return program{name: "holdfast", binary: run.Holdfast(t)}
}

// restless is what members of rounds run: so few entries are kept that a member which was away for a second needs the state.
func restless(t testing.TB) program {
	p := chosen(t)
	if p.name == "holdfast" {
		p = restlessHoldfast(t)
	}
	p.args = []string{"--snapshot-count=100", "--snapshot-catchup-entries=20"}
	return p
}

// restlessHoldfast flushes its store and releases its log every second, as it otherwise does after 32 MB.
func restlessHoldfast(t testing.TB) program {
	return program{
		name: "holdfast", binary: run.HoldfastWithFailpoints(t),
		env: []string{"GOFAIL_FAILPOINTS=storeFlushDue=return(true)"},
	}
}
