package storage

import "errors"

// Each calls do with every row of t, in the order of the bodies, until it returns an error, which Each returns. It is for
// the small tables that are read whole at start. body and value are valid within the call only.
func (s *Store) Each(t Table, do func(body, value []byte) error) (err error) {
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
