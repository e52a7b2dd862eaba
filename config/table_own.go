package config

// own marks, in place of one of etcd's versions, a flag that etcd does not have.
const own = "holdfast"

var ownFlags = []Flag{
	{Name: "memory-limit", Since: own, Group: groupOwn, bind: size(func(c *Config) *int64 { return &c.MemoryLimit }),
		Usage: "Bytes of memory the process may take, as 512MiB; caches, buffers and calls are sized by it.\n" +
			"0 is what the control group of the process allows. Without either, and from 1GiB on, all have their full size."},
	{Name: "metrics-old-names", Since: own, Group: groupOwn, bind: truth(func(c *Config) *bool { return &c.MetricsOld }),
		Usage: "Whether to show metrics also under names that etcd gave up with 3.5, for dashboards made before:\n" +
			"etcd_debugging_mvcc_put_total and etcd_debugging_mvcc_delete_total."},
}
