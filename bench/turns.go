package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// run makes every measurement that is missing, turn after turn, as long as there is time.
func (s *suite) run(ctx context.Context) error {
	turns, leftOut := s.turns(), 0
	s.out.line("%d rows, %d measurements: %s", len(s.rows), len(turns)*len(s.sides), s.left(turns))
	var failed []error
	for i, t := range turns {
		if ctx.Err() != nil {
			failed = append(failed, fmt.Errorf("%w: what was measured is kept", context.Cause(ctx)))
			break
		}
		if !s.until.IsZero() && time.Now().Add(s.expect(t)).After(s.until) {
			leftOut++
			continue
		}
		failed = append(failed, s.take(ctx, t, turns[i+1:]))
	}
	if leftOut > 0 {
		s.out.line("%d turns of %d were left out: there was no time for them", leftOut, len(turns))
	}
	failed = append(failed, summarize(s.out.out, s.results, s.rows, s.sides))
	err := errors.Join(failed...)
	if err == nil && leftOut == 0 && !s.cfg.Keep {
		err = s.dropStock(func(string) bool { return false })
	}
	return err
}

// take makes the measurements of a turn that are missing. A side that fails is not asked the same again; the other goes on.
func (s *suite) take(ctx context.Context, t turn, then []turn) error {
	var failed []error
	for _, p := range s.sides {
		if s.done(t, p) {
			continue
		}
		one, err := s.measure(ctx, t.row, p, t.round)
		if ctx.Err() != nil {
			break // what it says then is not about the row
		}
		if err != nil {
			err = fmt.Errorf("%s: %s, round %d: %w", t.row.name, p.name, t.round, err)
			s.failed[t.row.name+" "+p.name] = true
			s.out.line("FAIL %v", err)
			failed = append(failed, err)
			continue
		}
		if err := s.results.add(one); err != nil {
			return errors.Join(append(failed, err)...)
		}
		s.out.line("%s, %s)", lineOf(t.row, one), s.left(append([]turn{t}, then...)))
	}
	return errors.Join(failed...)
}

// measure makes one measurement in a folder of its own.
func (s *suite) measure(ctx context.Context, row row, p side, round int) (record, error) {
	load, err := load1()
	if err != nil {
		return record{}, err
	}
	dir, err := os.MkdirTemp(s.scratch, row.name+"-")
	if err != nil {
		return record{}, fmt.Errorf("make room for data: %w", err)
	}
	t := &task{suite: s, side: p, dir: dir, what: fmt.Sprintf("%-18s %d %-9s", row.name, round, p.name), record: newRecord()}
	t.record.Row, t.record.Side, t.record.Build, t.record.Round, t.record.Load1 = row.name, p.name, p.build, round, load
	err = row.run(ctx, t)
	t.record.Seconds = time.Since(t.record.At).Seconds()
	return t.record, errors.Join(err, os.RemoveAll(dir))
}

// lineOf is what one measurement found, up to a parenthesis that is left open.
func lineOf(row row, one record) string {
	line := fmt.Sprintf("%-18s %d %-9s", one.Row, one.Round, one.Side)
	for _, name := range row.show {
		if v, has := one.Values[name]; has {
			line += fmt.Sprintf(" %s %s", name, short(v))
		}
	}
	return fmt.Sprintf("%s (%.0f s, load %.1f", line, one.Seconds, one.Load1)
}
