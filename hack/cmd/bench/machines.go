package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"twlab/harness/guest"
	"twlab/harness/kernel"
	"twlab/harness/kernels"
	"twlab/harness/suitevm"
	"twlab/harness/topo"
)

// bootsFor is how long a machine may take to its first answered call, in seconds.
var bootsFor = map[guest.Accelerator]float64{guest.KVM: 2, guest.TCG: 8}

// callsPerBoot is how many round trips are measured on each machine.
const callsPerBoot = 200

// benchMachines measures machines with a kernel of their own: from the start to the
// first answered call, a call's round trip, and what is unpacked in the beginning.
func benchMachines(ctx context.Context, t *table, o options) error {
	k, title, err := benchKernel(o.kernel)
	if err != nil {
		if o.kernel != "" {
			return err
		}
		t.note("no machine is measured: " + err.Error())
		return nil
	}
	host := guest.Host{Agent: o.agent}
	if host.Accelerator, err = guest.Accelerate(ctx, k); err != nil {
		return err
	}
	t.note(fmt.Sprintf("machines with %s, accelerator %s", title, host.Accelerator))
	var boots, calls, size sample
	for range o.rounds {
		if err := benchMachine(ctx, guest.Config{Host: host, Kernel: k}, &boots, &calls, &size); err != nil {
			return err
		}
	}
	t.bounded("a machine: boot to the first answered call", boots, seconds, bootsFor[host.Accelerator])
	t.alone("a machine: round trip of a call", calls, seconds)
	t.alone("a machine: initramfs of a node", size, mebibytes)
	if o.job == "" {
		return nil
	}
	job := suitevm.Job{Host: host, Kernel: k, Argv: []string{o.job}, Results: os.TempDir()}
	bytes, err := job.InitramfsSize(ctx)
	if err != nil {
		return err
	}
	t.alone("a machine: initramfs of the whole suite", sample{float64(bytes)}, mebibytes)
	return nil
}

// benchKernel finds the kernel to measure: the one of that name, or the first that
// was fetched.
func benchKernel(name string) (k kernel.Image, title string, err error) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		return k, "", errors.New("QEMU is not installed (hack/bootstrap --with-qemu)")
	}
	cache, err := kernels.DefaultCache()
	if err != nil {
		return k, "", err
	}
	if name == "" {
		all, err := cache.List()
		if err != nil {
			return k, "", err
		}
		if len(all) == 0 {
			return k, "", errors.New("no kernel is at hand (hack/twlab kernels fetch debian-6.1)")
		}
		name = all[0].Name
	}
	found, err := cache.Find(name)
	return kernel.Image{Path: found.Image, Modules: found.Modules}, name, err
}

// benchMachine boots one machine and asks it things.
func benchMachine(ctx context.Context, c guest.Config, boots, calls, size *sample) (err error) {
	c.Node = topo.Identity{Name: "measured", Addr: netip.AddrFrom4([4]byte{10, 0, 0, 1})}
	began := time.Now()
	m, err := guest.Boot(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if _, err := m.Release(ctx); err != nil {
		return err
	}
	boots.add(time.Since(began))
	*size = append(*size, float64(m.InitramfsSize()))
	for range callsPerBoot {
		began := time.Now()
		if _, err := m.Release(ctx); err != nil {
			return err
		}
		calls.add(time.Since(began))
	}
	return nil
}
