package storage

import "errors"

// View is what both a Store and a Reader can be asked for by those who load small tables whole.
type View interface {
	// Each calls do with every row of t, in the order of the bodies, until it returns an error, which Each returns. body
	// and value are valid within the call only.
	Each(t Table, do func(body, value []byte) error) error
	// Get returns the value of one row.
	Get(key []byte) (value []byte, ok bool, err error)
}

// Each is View's, on the rows as they are now.
func (s *Store) Each(t Table, do func(body, value []byte) error) error { return each(s, t, do) }

// Each is View's, on the rows of the view.
func (r *Reader) Each(t Table, do func(body, value []byte) error) error { return each(r, t, do) }

type scanner interface {
	Scan(t Table, lo, hi []byte) (*Iter, error)
}

func each(s scanner, t Table, do func(body, value []byte) error) (err error) {
	it, err := s.Scan(t, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		value, err := it.Value()
		if err != nil {
			return err
		}
		if err := do(it.Body(), value); err != nil {
			return err
		}
	}
	return it.Err()
}
