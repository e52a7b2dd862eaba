package metrics

import (
	"testing"

	"holdfast/test/run"
	"holdfast/tracing/tracetest"
)

// TestTracingFlags: the flags of tracing reach a collector: every call and operation of a load is a span there, also those of the last
// moment before the member ends.
func TestTracingFlags(t *testing.T) {
	if testing.Short() {
		t.Skip("starts members")
	}
	c := tracetest.Start(t)
	m := startMembers(t, run.Holdfast(t), 1, "--enable-distributed-tracing", "--distributed-tracing-address="+c.Address,
		"--distributed-tracing-service-name=store", "--distributed-tracing-instance-id=m0", "--distributed-tracing-sampling-rate=1000000")[0]
	load(t, m)
	if err := m.Stop(); err != nil { // what is left is sent
		t.Fatal(err)
	}
	for name, n := range map[string]int{
		"etcdserverpb.KV/Put": 20, "put": 20, "txn": 1, "delete_range": 1, "compact": 1, "lease_grant": 1, "lease_renew": 1, "lease_revoke": 1,
		"watch": 1, "etcdserverpb.Watch/Watch": 1,
	} {
		if got := len(c.Named(name)); got != n {
			t.Errorf("%d spans are called %s, want %d", got, name, n)
		}
	}
	if c.Of("service.name") != "store" || c.Of("service.instance.id") != "m0" {
		t.Errorf("the spans are of %q, %q", c.Of("service.name"), c.Of("service.instance.id"))
	}
}
