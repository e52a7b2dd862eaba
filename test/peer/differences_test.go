package peer

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestUnbuiltLines looks up methods whose line names them, their service, or neither.
func TestUnbuiltLines(t *testing.T) {
	d := loadDifferences(`etcdserverpb.Auth | unbuilt | because
etcdserverpb.Cluster.MemberAdd | unbuilt | because`)
	for path, want := range map[string]string{
		authPath + "UserAdd": "etcdserverpb.Auth",
		memberAdd:            "etcdserverpb.Cluster.MemberAdd",
		memberList:           "",
		put:                  "",
	} {
		if got := d.methodLine(d.unbuilt, path); string(got) != want {
			t.Errorf("the line for %s is %q, want %q", path, got, want)
		}
	}
}

// TestRefusesUnbuilt tells a server that says it lacks a method from one that has it and answers something else.
func TestRefusesUnbuilt(t *testing.T) {
	for _, c := range []struct {
		name string
		a    answer
		want bool
	}{
		{"in our words", answer{code: codes.Unimplemented, text: "holdfast: this version has one member"}, true},
		{"in gRPC's words", answer{code: codes.Unimplemented, text: "method MemberAdd not implemented"}, true},
		{"another method", answer{code: codes.Unimplemented, text: "method MemberRemove not implemented"}, false},
		{"an unknown service", answer{code: codes.Unimplemented, text: "unknown service etcdserverpb.Cluster"}, false},
		{"an error of the API", answer{code: codes.InvalidArgument, text: "etcdserver: given member URLs are invalid"}, false},
		{"success", answer{}, false},
	} {
		if got := refusesUnbuilt(memberAdd, c.a); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

// TestLinesAreMet checks that a line about our server has to be met like a rule, that errors only such a method answers
// need not be met, and that without the line it is the other way round.
func TestLinesAreMet(t *testing.T) {
	row, failure := lineRow("etcdserverpb.Maintenance.Downgrade"), "1.4 InvalidArgument: etcdserver: wrong downgrade target version format"
	ours := newTally(loadDifferences("etcdserverpb.Maintenance.Downgrade | unbuilt | because")).Missing()
	if !slices.Contains(ours, row) || slices.Contains(ours, failure) {
		t.Errorf("against ours %q has to be met and %q not: %q", row, failure, ours)
	}
	itself := newTally(loadDifferences("")).Missing()
	if slices.Contains(itself, row) || !slices.Contains(itself, failure) {
		t.Errorf("without the line %q has to be met and %q not: %q", failure, row, itself)
	}
}
