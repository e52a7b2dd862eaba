package metrics

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"holdfast/util/version"
)

var (
	fdUsed  = gauge("os_fd_used", "File descriptors that the process has open.")
	fdLimit = gauge("os_fd_limit", "File descriptors that the process may have open.")

	etcdVersion = gauge("etcd_server_version", "Version of etcd that the member stands for. Always 1.", "server_version")
	goVersion   = gauge("etcd_server_go_version", "Version of Go that the binary was built with. Always 1.", "server_go_version")
	buildInfo   = gauge("holdfast_build_info", "Version of Holdfast. Always 1.", "version", "commit")
)

// sampleProcess shows what the binary and the process are.
func sampleProcess(s *Sample) {
	s.Set(etcdVersion, 1, version.EtcdVersion)
	s.Set(goVersion, 1, runtime.Version())
	s.Set(buildInfo, 1, version.Holdfast(), version.Commit())
	if open, err := os.ReadDir("/proc/self/fd"); err == nil { // else it is shown as 0
		s.Set(fdUsed, float64(len(open)-1)) // one is that of the directory
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		s.Set(fdLimit, float64(limit.Cur))
	}
}
