; NMIs that arrive in the VMM on VT-x: they are counted for the guest.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern vmm_entry_window, vmm_entry_window_end, vmm_entry_retry
global nmiStub, releaseNmiStub

section .text
nmiStub:
	lea rax, [nmi]
	ret
releaseNmiStub:
	lea rax, [release_nmi]
	ret

; On an interrupt stack of its own, whose top word is the Cpu (cpu/host.ts).
;   0 RDX  8 RAX  16 RIP  24 CS  32 RFLAGS  40 RSP  48 SS  56 Cpu
; Within the entry window RBX is put back to the Vcpu: the retry loads the rest again.
nmi:
	push rax
	push rdx
	mov rax, [rsp + 56]
	lock inc dword [rax + Cpu.nmiCount]
	lea rdx, [vmm_entry_window]
	cmp [rsp + 16], rdx
	jb .done
	lea rdx, [vmm_entry_window_end]
	cmp [rsp + 16], rdx
	jae .done
	mov rbx, [rax + Cpu.vcpu]
	lea rax, [vmm_entry_retry]
	mov [rsp + 16], rax
.done:
	pop rdx
	pop rax
	iretq

; While leaveVmm puts the kernel's tables back there is no stack of our own to
; count on, but RBX is its ReleaseState.
release_nmi:
	push rax
	mov rax, [rbx + ReleaseState.cpu]
	lock inc dword [rax + Cpu.nmiCount]
	pop rax
	iretq
