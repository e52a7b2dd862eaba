package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/server"
	"holdfast/util/systemd"
)

// statusInterval is how often it is looked whether the service manager is to be shown another status, if no watchdog asks for more.
const statusInterval = 5 * time.Second

// findManager looks for a service manager; nil if there is none.
func findManager(log *slog.Logger) *systemd.Manager {
	manager, err := systemd.Find(os.Getenv)
	if err != nil {
		log.Warn("the environment of the service manager is not understood", "error", err)
	}
	return manager
}

// tellFailure shows the service manager why the member has stopped.
func tellFailure(manager *systemd.Manager, log *slog.Logger, failure error) {
	if failure == nil {
		return
	}
	if err := manager.Tell(systemd.Status(failure.Error())); err != nil {
		log.Warn("failed to notify init daemon", "error", err)
	}
}

// supervise tells the service manager, until ctx ends, when the member is ready, how it stands, and, for a watchdog, that it makes
// progress: one that hangs falls silent, and is killed and started again.
func supervise(ctx context.Context, member *server.Server, manager *systemd.Manager, log *slog.Logger) {
	if manager == nil {
		return
	}
	tell := func(states ...string) {
		if err := manager.Tell(states...); err != nil {
			log.Warn("failed to notify init daemon", "error", err)
		}
	}
	defer func() { tell(systemd.Stopping, systemd.Status("stopping")) }()
	tell(systemd.Status(fmt.Sprintf("member %s waits for a majority of its cluster", member.ID())))
	select {
	case <-member.Ready():
	case <-ctx.Done():
		return
	}
	shown, dog := statusText(member), watchdog{progress: member.Progress}
	tell(systemd.Ready, systemd.Status(shown))
	log.Info("successfully notified init daemon", "watchdog", manager.Watchdog())
	tick := time.NewTicker(lookInterval(manager.Watchdog()))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		var states []string
		if text := statusText(member); text != shown {
			shown = text
			states = append(states, systemd.Status(text))
		}
		if manager.Watchdog() > 0 && dog.alive() {
			states = append(states, systemd.Alive)
		}
		if len(states) > 0 {
			tell(states...)
		}
	}
}

// lookInterval leaves room for a late look within the watchdog's time.
func lookInterval(watchdog time.Duration) time.Duration {
	if watchdog == 0 {
		return statusInterval
	}
	return min(statusInterval, watchdog/3)
}

// watchdog judges whether a member makes progress: its loop turns, and log and state machine have not had work for an election
// timeout without moving.
type watchdog struct {
	progress func() (ticks uint64, stalled bool)
	before   uint64
}

func (w *watchdog) alive() bool {
	ticks, stalled := w.progress()
	moved := ticks != w.before
	w.before = ticks
	return moved && !stalled
}

// statusText says in a sentence how the member stands.
func statusText(member *server.Server) string {
	s := member.Status()
	switch {
	case s.Leader == 0:
		return fmt.Sprintf("member %s has no leader and serves what needs none", member.ID())
	case s.Leader == member.ID():
		return fmt.Sprintf("member %s serves clients, and leads in term %d", member.ID(), s.Term)
	case s.IsLearner:
		return fmt.Sprintf("member %s learns from the leader %s", member.ID(), s.Leader)
	}
	return fmt.Sprintf("member %s serves clients, and follows %s in term %d", member.ID(), s.Leader, s.Term)
}

// filesWanted is how many files and connections may be open together before a start warns: a thousand clients, and what the store,
// the log and the other members take.
const filesWanted = 2048

// tellLimits says in the log what the system allows the process.
func tellLimits(log *slog.Logger) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		log.Warn("the limit of open files is not known", "error", err)
		return
	}
	if files.Cur < filesWanted {
		log.Warn("few files may be open at once; raise LimitNOFILE= of the unit or ulimit -n", "limit", files.Cur, "hard-limit", files.Max)
		return
	}
	log.Info("open files are limited", "limit", files.Cur, "hard-limit", files.Max)
}
