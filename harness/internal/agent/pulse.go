//go:build linux

package agent

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"twlab/harness/kernel"
)

// pulse is the interval of the frames that keep a card working: it is several times shorter
// than the second after which TCP repeats the first SYN.
const pulse = 100 * time.Millisecond

// localExperiment is the EtherType that IEEE 802 reserves for experiments; every receiver
// ignores it.
const localExperiment = 0x88b5

// keepMoving sends meaningless frames over links whose card keeps the last packet until the
// next one is sent, on kernels where that disturbs TCP. Before Linux 3.18, TCP does not
// retransmit a segment of which a copy still exists, and virtio_net frees a sent packet
// only when it sends the next one. So a SYN without an answer would be sent only once
// (commit 39bb5e628690, net: skb_fclone_busy() needs to detect orphaned skb).
func keepMoving(links []Link) error {
	release, err := kernel.Running()
	if err != nil || !release.Before(3, 18) {
		return err
	}
	for _, l := range links {
		driver, err := os.Readlink(filepath.Join("/sys/class/net", l.Name, "device/driver"))
		if err != nil {
			return fmt.Errorf("driver of %s: %w", l.Name, err)
		}
		if filepath.Base(driver) != "virtio_net" {
			continue
		}
		card, err := net.InterfaceByName(l.Name)
		if err != nil {
			return err
		}
		far, err := net.ParseMAC(l.PeerHardwareAddr)
		if err != nil {
			return err
		}
		// Protocol 0: it receives nothing.
		socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		frame := append(append(append([]byte{}, far...), card.HardwareAddr...), make([]byte, 48)...)
		binary.BigEndian.PutUint16(frame[12:], localExperiment)
		to := &unix.SockaddrLinklayer{Ifindex: card.Index}
		if err := unix.Sendto(socket, frame, 0, to); err != nil {
			return fmt.Errorf("send a frame over %s: %w", l.Name, err)
		}
		go func() {
			for range time.Tick(pulse) { // until the guest ends
				_ = unix.Sendto(socket, frame, 0, to) // a link that is down has nothing to keep
			}
		}()
	}
	return nil
}
