//go:build linux

package tcp

import "errors"

// spare holds the sockets of one kind that a Dialer has opened in the namespace and not
// used yet.
type spare struct {
	sockets  []*socket
	unopened int // number of sockets that remain to be opened
	visiting bool
	err      error // of the last visit
}

// spareSockets is the number of sockets that one visit to the namespace opens; the visit
// costs as much as some of them. The next visit begins when half of them are used, so that
// no attempt waits for it.
const spareSockets = 64

func (d *Dialer) open(k kind) (*socket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	of, found := d.spare[k]
	if !found {
		of = &spare{unopened: d.connections}
		d.spare[k] = of
	}
	for {
		if len(of.sockets) <= spareSockets/2 && of.unopened > 0 && !of.visiting {
			of.visiting = true
			d.visits.Go(func() { d.visit(k, of) })
		}
		if len(of.sockets) > 0 {
			break
		}
		if of.err != nil {
			return nil, of.err
		}
		d.more.Wait()
	}
	last := len(of.sockets) - 1
	s := of.sockets[last]
	of.sockets = of.sockets[:last]
	return s, nil
}

// visit opens more sockets in the namespace.
func (d *Dialer) visit(k kind, of *spare) {
	d.mu.Lock()
	wanted := min(spareSockets, of.unopened)
	d.mu.Unlock()
	var opened []*socket
	err := d.host.inside(func() error {
		for range wanted {
			s, err := openSocket(k)
			if err != nil {
				return err
			}
			opened = append(opened, s)
		}
		return nil
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	of.sockets = append(of.sockets, opened...)
	of.unopened -= wanted
	of.err = err
	of.visiting = err != nil // after an error there is no further visit
	d.more.Broadcast()
}

// closeSpare closes the sockets that were opened and not used.
func (d *Dialer) closeSpare() error {
	d.visits.Wait()
	var errs []error
	for _, of := range d.spare {
		for _, s := range of.sockets {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}
