// Package jsonlog writes slog records as the lines etcd writes, so that whatever reads etcd's log reads ours.
//
//	Shape   json     {"level":"info","ts":"2006-01-02T15:04:05.000000Z","caller":"dir/file.go:12","msg":"...",fields}
//	        console  ts, level, caller, msg and {"fields": 1}, separated by tabs
//	Units   ts in microseconds with the zone as Z or +hhmm; a duration field is text ("1.5s"), a time field has ts's layout,
//	        an error its message, a Stringer its text, a []byte base64, a group an object
//	Errors  Open and Config.Check return etcd's sentences for a wrong setting. A line that could not be written is
//	        counted (Outputs.Lost): the log has nowhere else to go
//	Source  observed output of etcd 3.7, whose encoder is zap's with this layout
//
// As in etcd, lines are sampled: of one message and level in one second the first 100 are written, then every 100th. A fault
// that logs in a loop therefore cannot fill a disk. etcd's stack traces below error lines are left out.
package jsonlog

import (
	"fmt"
	"log/slog"
	"strings"
)

// Levels of etcd above slog.LevelError. Logging at one of them ends nothing: only the program's main function exits.
const (
	LevelDPanic slog.Level = 10
	LevelPanic  slog.Level = 12
	LevelFatal  slog.Level = 16
)

// timeLayout has exactly six digits of fraction, as etcd prints since its first structured log.
const timeLayout = "2006-01-02T15:04:05.000000Z0700"

// levelName is the name etcd prints for a level; a level in between has the name of the next lower one.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	case l < LevelDPanic:
		return "error"
	case l < LevelPanic:
		return "dpanic"
	case l < LevelFatal:
		return "panic"
	}
	return "fatal"
}

// ParseLevel reads the values of etcd's --log-level, in lower or upper case; "" is info.
func ParseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	case "dpanic":
		return LevelDPanic, nil
	case "panic":
		return LevelPanic, nil
	case "fatal":
		return LevelFatal, nil
	}
	return 0, fmt.Errorf("unrecognized level: %q", name)
}
