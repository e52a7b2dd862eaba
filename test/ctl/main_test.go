package ctl

import (
	"flag"
	"testing"
)

// long asks for all that is here. Without it some tests are left out, and what is done on both kinds of servers is done on ours.
var long = flag.Bool("ctl.long", false, "run everything: some minutes")

func skipUnlessLong(t *testing.T) {
	t.Helper()
	if !*long {
		t.Skip("takes minutes: -ctl.long, or make ctl")
	}
}
