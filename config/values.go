package config

import (
	"errors"
	"flag"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/util/urllist"
)

// form says how a value looks in a configuration file; on the command line everything is text.
type form int

const (
	formText     form = iota // a string, or a number or truth value taken as one
	formNumber               // an integer
	formTruth                // true or false
	formDuration             // an integer, in nanoseconds
	formList                 // a list of strings
)

// binding ties a flag to a field of Config. The field's value at registration is the default.
type binding struct {
	form     form
	register func(fs *flag.FlagSet, name string, c *Config)
}

func text(field func(*Config) *string) binding {
	return binding{formText, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.StringVar(p, name, *p, "")
	}}
}

func truth(field func(*Config) *bool) binding {
	return binding{formTruth, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.BoolVar(p, name, *p, "")
	}}
}

func span(field func(*Config) *time.Duration) binding {
	return binding{formDuration, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.DurationVar(p, name, *p, "")
	}}
}

func whole(field func(*Config) *int) binding {
	return binding{formNumber, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.IntVar(p, name, *p, "")
	}}
}

func whole64(field func(*Config) *int64) binding {
	return binding{formNumber, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.Int64Var(p, name, *p, "")
	}}
}

func count(field func(*Config) *uint) binding {
	return binding{formNumber, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.UintVar(p, name, *p, "")
	}}
}

func count64(field func(*Config) *uint64) binding {
	return binding{formNumber, func(fs *flag.FlagSet, name string, c *Config) {
		p := field(c)
		fs.Uint64Var(p, name, *p, "")
	}}
}

// value makes a binding from what a flag.Value does.
func value(f form, get func(*Config) string, set func(*Config, string) error) binding {
	return binding{f, func(fs *flag.FlagSet, name string, c *Config) {
		fs.Var(&setter{get: func() string { return get(c) }, set: func(s string) error { return set(c, s) }}, name, "")
	}}
}

type setter struct {
	get func() string
	set func(string) error
}

func (s *setter) Set(v string) error { return s.set(v) }

func (s *setter) String() string {
	if s.get == nil { // the flag package asks a zero value for its text
		return ""
	}
	return s.get()
}

func count32(field func(*Config) *uint32) binding {
	return value(formNumber,
		func(c *Config) string { return strconv.FormatUint(uint64(*field(c)), 10) },
		func(c *Config, s string) error {
			v, err := strconv.ParseUint(s, 0, 32)
			if err != nil {
				return err
			}
			*field(c) = uint32(v)
			return nil
		})
}

// size is a number of bytes, alone or with one of byteUnits.
func size(field func(*Config) *int64) binding {
	return value(formText,
		func(c *Config) string { return strconv.FormatInt(*field(c), 10) },
		func(c *Config, s string) error {
			n, err := parseBytes(s)
			if err != nil {
				return err
			}
			*field(c) = n
			return nil
		})
}

// byteUnits are the units of a size: Go's for GOMEMLIMIT, and the short forms of Kubernetes.
var byteUnits = []struct {
	name  string
	shift uint
}{
	{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}, {"Ki", 10}, {"Mi", 20}, {"Gi", 30}, {"Ti", 40}, {"B", 0},
}

func parseBytes(s string) (int64, error) {
	digits, shift := s, uint(0)
	for _, u := range byteUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			digits, shift = rest, u.shift
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, errors.New("expected a number of bytes, which may end in KiB, MiB, GiB or TiB")
	}
	return n << shift, nil
}

// urls is a comma list of URLs, sorted and without doubles. An empty text leaves what was there, as in etcd.
func urls(field func(*Config) *[]url.URL) binding {
	return value(formText,
		func(c *Config) string { return strings.Join(urllist.Texts(*field(c)), ",") },
		func(c *Config, s string) error {
			if s == "" {
				return nil
			}
			list, err := urllist.Parse(strings.Split(s, ","))
			if err != nil {
				return err
			}
			*field(c) = slices.CompactFunc(list, func(a, b url.URL) bool { return a.String() == b.String() })
			return nil
		})
}

// origins is "*" or a comma list of URLs, kept as text.
func origins(field func(*Config) *[]string) binding {
	return value(formText,
		func(c *Config) string { return strings.Join(*field(c), ",") },
		func(c *Config, s string) error {
			if s == "*" {
				*field(c) = []string{s}
				return nil
			}
			list, err := urllist.Parse(strings.Split(s, ","))
			if err != nil {
				return err
			}
			*field(c) = slices.Compact(urllist.Texts(list))
			return nil
		})
}

// words is a comma list that keeps its order.
func words(field func(*Config) *[]string) binding {
	return value(formList,
		func(c *Config) string { return strings.Join(*field(c), ",") },
		func(c *Config, s string) error {
			*field(c) = strings.Split(s, ",")
			return nil
		})
}

// set is a comma list of which only the members matter: sorted, without doubles.
func set(f form, field func(*Config) *[]string) binding {
	return value(f,
		func(c *Config) string { return strings.Join(*field(c), ",") },
		func(c *Config, s string) error {
			list := strings.Split(s, ",")
			slices.Sort(list)
			*field(c) = slices.Compact(list)
			return nil
		})
}

// oneOf is a text out of a list.
func oneOf(field func(*Config) *string, valid ...string) binding {
	return value(formText,
		func(c *Config) string { return *field(c) },
		func(c *Config, s string) error {
			if !slices.Contains(valid, s) {
				return errors.New("invalid value")
			}
			*field(c) = s
			return nil
		})
}

// checked is a value that is parsed, so that a wrong one is still refused, and then forgotten.
func checked(b binding) binding {
	return binding{b.form, func(fs *flag.FlagSet, name string, _ *Config) {
		b.register(fs, name, new(Config))
	}}
}

// judged is a value that no field keeps: it has the right form, and a rule looks at it after everything is read.
func judged(initial string, check func(string) error) binding {
	return binding{formText, func(fs *flag.FlagSet, name string, _ *Config) {
		v := initial
		fs.Var(&setter{
			get: func() string { return v },
			set: func(s string) error {
				if err := check(s); err != nil {
					return err
				}
				v = s
				return nil
			},
		}, name, "")
	}}
}

// Values that only need the right form.
var (
	anyText     = checked(text(func(c *Config) *string { return &c.Name }))
	anyTruth    = checked(truth(func(c *Config) *bool { return &c.PreVote }))
	anyCount    = checked(count(func(c *Config) *uint { return &c.MaxWALs }))
	anyWhole    = checked(whole(func(c *Config) *int { return &c.MaxLearners }))
	anyDuration = checked(span(func(c *Config) *time.Duration { return &c.WarnApply }))

	// ignoredValue is etcd's form for names it ignores itself: a switch that takes anything.
	ignoredValue = binding{formText, func(fs *flag.FlagSet, name string, _ *Config) { fs.Var(ignored{}, name, "") }}
)

type ignored struct{}

func (ignored) Set(string) error { return nil }
func (ignored) String() string   { return "" }
func (ignored) IsBoolFlag() bool { return true }
