package config

import (
	"errors"
	"slices"
	"strings"
)

// Values that are left of flags which once had more.
const (
	fallbackExit  = "exit"
	fallbackProxy = "proxy"
	loggerZap     = "zap"
)

// Flags whose value must have the right form and is then judged by rule.
var (
	fallbackValue = judged(fallbackExit, func(s string) error { return member(s, fallbackExit, fallbackProxy) })
	proxyValue    = judged("off", func(s string) error { return member(s, "off", "readonly", "on") })
	loggerValue   = judged(loggerZap, func(string) error { return nil })
	v2Value       = judged("", func(s string) error {
		for _, stage := range strings.Split(s, ",") {
			if err := member(stage, "not-yet", "write-only", "write-only-skip-check", "write-only-drop-data", "gone"); err != nil {
				return err
			}
		}
		return nil
	})
)

func member(s string, valid ...string) error {
	if !slices.Contains(valid, s) {
		return errors.New("invalid value")
	}
	return nil
}

func isTrue(s string) bool     { return s == "true" }
func isNotEmpty(s string) bool { return s != "" }
func isNotOff(s string) bool   { return s != "off" }
func becomes(name string) Flag { return Flag{Kind: Renamed, Became: name} }
func gated(name Feature) Flag  { return Flag{Kind: Gated, Became: string(name), bind: anyTruth} }
func ignoredByEtcd() Flag      { return Flag{Kind: Ignored, Why: "etcd ignores it too", bind: ignoredValue} }
func ofProxy() Flag            { return Flag{Kind: Ignored, Why: "the v2 proxy it tuned is gone", bind: anyCount} }
func (f Flag) in(name, since, until string) Flag {
	f.Name, f.Since, f.Until = name, since, until
	return f
}

// oldFlags are not in the help. They keep an old command line working, or say why it cannot.
var oldFlags = []Flag{
	becomes("backend-bbolt-freelist-type").in("experimental-backend-bbolt-freelist-type", "3.4", "3.4"),
	becomes("bootstrap-defrag-threshold-megabytes").in("experimental-bootstrap-defrag-threshold-megabytes", "3.5", "3.6"),
	becomes("compact-hash-check-time").in("experimental-compact-hash-check-time", "3.5", "3.6"),
	becomes("compaction-batch-limit").in("experimental-compaction-batch-limit", "3.4", "3.6"),
	becomes("compaction-sleep-interval").in("experimental-compaction-sleep-interval", "3.5", "3.6"),
	becomes("corrupt-check-time").in("experimental-corrupt-check-time", "3.4", "3.6"),
	becomes("distributed-tracing-address").in("experimental-distributed-tracing-address", "3.5", "3.6"),
	becomes("distributed-tracing-instance-id").in("experimental-distributed-tracing-instance-id", "3.5", "3.6"),
	becomes("distributed-tracing-sampling-rate").in("experimental-distributed-tracing-sampling-rate", "3.5", "3.6"),
	becomes("distributed-tracing-service-name").in("experimental-distributed-tracing-service-name", "3.5", "3.6"),
	becomes("downgrade-check-time").in("experimental-downgrade-check-time", "3.5", "3.6"),
	becomes("enable-distributed-tracing").in("experimental-enable-distributed-tracing", "3.5", "3.6"),
	becomes("memory-mlock").in("experimental-memory-mlock", "3.5", "3.6"),
	becomes("peer-skip-client-san-verification").in("experimental-peer-skip-client-san-verification", "3.4", "3.6"),
	becomes("snapshot-catchup-entries").in("experimental-snapshot-catchup-entries", "3.5", "3.6"),
	becomes("warning-apply-duration").in("experimental-warning-apply-duration", "3.5", "3.6"),
	becomes("warning-unary-request-duration").in("experimental-warning-unary-request-duration", "3.6", "3.6"),
	becomes("watch-progress-notify-interval").in("experimental-watch-progress-notify-interval", "3.5", "3.6"),
	becomes("log-outputs").in("log-output", "3.4", "3.4"),
	{Name: "debug", Since: "3.4", Until: "3.4", Kind: Renamed, Became: "log-level", bind: anyTruth,
		apply: func(c *Config, s string) {
			if isTrue(s) {
				c.Log.Level = "debug"
			}
		}},

	gated(CompactHashCheck).in("experimental-compact-hash-check-enabled", "3.5", "3.6"),
	gated(InitialCorruptCheck).in("experimental-initial-corrupt-check", "3.4", "3.6"),
	gated(LeaseCheckpoint).in("experimental-enable-lease-checkpoint", "3.4", "3.6"),
	gated(LeaseCheckpointPersist).in("experimental-enable-lease-checkpoint-persist", "3.5", "3.6"),
	gated(StopGRPCServiceOnDefrag).in("experimental-stop-grpc-service-on-defrag", "3.5", "3.6"),
	gated(TxnModeWriteWithSharedBuffer).in("experimental-txn-mode-write-with-shared-buffer", "3.5", "3.6"),

	{Name: "log-package-levels", Since: "3.4", Until: "3.4", Kind: Ignored, bind: anyText,
		Why: "levels by package went with the old log; --log-level is for all"},
	{Name: "discovery-proxy", Since: "3.4", Until: "3.6", Kind: Ignored, bind: anyText, Why: "the v2 discovery it tuned is gone"},
	ofProxy().in("proxy-dial-timeout", "3.4", "3.5"),
	ofProxy().in("proxy-failure-wait", "3.4", "3.5"),
	ofProxy().in("proxy-read-timeout", "3.4", "3.5"),
	ofProxy().in("proxy-refresh-interval", "3.4", "3.5"),
	ofProxy().in("proxy-write-timeout", "3.4", "3.5"),

	{Name: "discovery", Since: "3.4", Until: "3.6", Kind: Refused, bind: anyText, asks: isNotEmpty,
		Why: "asks for the v2 discovery service, which is gone; use --discovery-token with --discovery-endpoints, --discovery-srv or --initial-cluster"},
	{Name: "enable-v2", Since: "3.4", Until: "3.5", Kind: Refused, bind: anyTruth, asks: isTrue,
		Why: "asks for the v2 API, which is gone; remove the flag and let clients use the v3 API"},
	{Name: "experimental-enable-v2v3", Since: "3.4", Until: "3.5", Kind: Refused, bind: anyText, asks: isNotEmpty,
		Why: "asks for the v2 API on top of v3, which is gone; remove the flag and let clients use the v3 API"},
	{Name: "proxy", Since: "3.4", Until: "3.5", Kind: Refused, bind: proxyValue, asks: isNotOff,
		Why: "asks for the v2 proxy, which is gone; let clients connect to the members"},

	ignoredByEtcd().in("cluster-active-size", "3.4", ""),
	ignoredByEtcd().in("cluster-remove-delay", "3.4", ""),
	ignoredByEtcd().in("cluster-sync-interval", "3.4", ""),
	ignoredByEtcd().in("config", "3.4", ""),
	ignoredByEtcd().in("force", "3.4", ""),
	ignoredByEtcd().in("max-result-buffer", "3.4", ""),
	ignoredByEtcd().in("max-retry-attempts", "3.4", ""),
	ignoredByEtcd().in("peer-election-timeout", "3.4", ""),
	ignoredByEtcd().in("peer-heartbeat-interval", "3.4", ""),
	ignoredByEtcd().in("retry-interval", "3.4", ""),
	ignoredByEtcd().in("snapshot", "3.4", ""),
	ignoredByEtcd().in("test.coverprofile", "3.4", ""),
	ignoredByEtcd().in("test.outputdir", "3.4", ""),
	ignoredByEtcd().in("v", "3.4", ""),
	ignoredByEtcd().in("vv", "3.4", ""),
}
