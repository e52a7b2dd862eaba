package config

import (
	"errors"
	"log/slog"

	"holdfast/util/jsonlog"
)

// Exit statuses of a start that does not come to serving.
const (
	ExitAsked   = 0 // help or version
	ExitRefused = 1 // the flags are readable and do not go together
	ExitUsage   = 2 // the command line cannot be read
)

// Wrong settings that callers tell apart. The texts are etcd's.
var (
	// ErrAdvertiseClientURLs is a listen URL without an address that clients can be told.
	ErrAdvertiseClientURLs = errors.New("--advertise-client-urls is required when --listen-client-urls is set explicitly")
	// ErrBootstrapConflict is more than one way to find the first members.
	ErrBootstrapConflict = errors.New(`multiple discovery or bootstrap flags are set. ` +
		`Choose one of "initial-cluster", "discovery-endpoints" or "discovery-srv"`)
)

// Stop is why a start ends before there is a server: what to print, what to log, and the exit status. Parse returns no other
// kind of error.
type Stop struct {
	Code   int
	Stdout string // printed as it is, as Stderr
	Stderr string
	Notes  Notes // logged after those of Parse
	cause  error
}

func (s *Stop) Error() string {
	if s.cause == nil {
		return "help or version was asked for"
	}
	return s.cause.Error()
}

func (s *Stop) Unwrap() error { return s.cause }

// refuse is a setting that is readable and cannot be.
func refuse(err error) *Stop {
	s := &Stop{Code: ExitRefused, cause: err}
	s.Notes.warn("failed to verify flags", slog.Any("error", err))
	if errors.Is(err, ErrAdvertiseClientURLs) {
		s.Notes.warn("advertise client URLs are not set", slog.Any("error", err))
	}
	return s
}

// conflict is a variable and a flag that both speak.
func conflict(variable string) *Stop {
	const msg = "conflicting environment variable is shadowed by corresponding command-line flag " +
		"(either unset environment variable or disable flag))"
	s := &Stop{Code: ExitRefused, cause: errors.New(msg + ": " + variable)}
	s.Notes = Notes{{jsonlog.LevelFatal, msg, []slog.Attr{slog.String("environment-variable", variable)}}}
	return s
}
