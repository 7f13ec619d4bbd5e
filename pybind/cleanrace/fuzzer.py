# SPDX-License-Identifier: GPL-2.0-only
"""One native call per fuzzer input, and what such calls reached."""

from typing import Final

from cleanrace._native import Config, Native


class Fuzzer:
    """Runs fuzzer inputs on a target; made by Target.fuzzer().

    An input is a scenario's bytes followed by a tape, and every byte string is one. Native
    counters of edges and interleavings count what inputs reach; attach() hands them to libFuzzer.
    """

    __slots__ = ("_native", "_one")

    def __init__(self, native: Native, config: Config) -> None:
        self._native: Final = native
        self._one: Final = native.fuzz_one(config)

    def one(self, data: bytes) -> int:
        """Run one input: the bit set of its verdicts (Target.named("verdicts", bits)), 0 if ok."""
        return self._one(data)

    def attach(self, counters_init: int, pcs_init: int) -> None:
        """Register the counters with libFuzzer through its functions, given by address.

        They are __sanitizer_cov_8bit_counters_init and __sanitizer_cov_pcs_init. ValueError if
        one is 0.
        """
        if not counters_init or not pcs_init:
            raise ValueError("counters_init and pcs_init must be addresses, not 0")
        self._native.fuzz_attach(counters_init, pcs_init)

    @property
    def edges_seen(self) -> int:
        """Distinct edges of the kernel side reached in this process so far."""
        return self._native.edges_seen()

    @property
    def pairs_seen(self) -> int:
        """Distinct pairs of access sites of two threads that met in this process so far."""
        return self._native.pairs_seen()

    @property
    def registers(self) -> bytes:
        """HyperLogLog registers of the interleavings of this process so far (Summary.registers)."""
        return self._native.fuzz_registers()

    def edges(self) -> tuple[int, ...]:
        """The edges reached, as offsets into the kernel's text (Target.names.function_line)."""
        return self._native.edges()
