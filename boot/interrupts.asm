; What the VMM's IDT points to. The VMM runs with interrupts off, so there are
; only NMIs, the interrupts it takes on purpose while it empties a local APIC, and
; exceptions, which are bugs.
; SPDX-License-Identifier: MIT
bits 64
default rel

%include "vmm.inc"

extern acknowledgeInterrupt, onException
extern vmm_entry_window, vmm_entry_window_end, vmm_entry_retry
global exceptionStubs, nmiStub, releaseNmiStub, interruptStub

section .text
exceptionStubs:
	lea rax, [exception_stubs]
	ret
nmiStub:
	lea rax, [nmi]
	ret
releaseNmiStub:
	lea rax, [release_nmi]
	ret
interruptStub:
	lea rax, [interrupt]
	ret

; 32 stubs of 16 bytes, by vector; those whose exception has no error code push one.
align 16
exception_stubs:
%assign vector 0
%rep 32
	align 16
%if vector = 8 || (vector >= 10 && vector <= 14) || vector = 17 || vector = 21 || vector = 29 || vector = 30
%else
	push 0
%endif
	push vector
	jmp exception
%assign vector vector + 1
%endrep

exception:				; vector, error code, RIP, …
	mov rdi, [rsp]
	mov rsi, [rsp + 16]
	and rsp, -16
	call onException

; On an interrupt stack of its own, whose top word is the Cpu (cpu/vmx/host.ts).
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

; While leaveVmx puts the kernel's tables back there is no stack of our own to
; count on, but RBX is its ReleaseState.
release_nmi:
	push rax
	mov rax, [rbx + ReleaseState.cpu]
	lock inc dword [rax + Cpu.nmiCount]
	pop rax
	iretq

interrupt:
	push rax
	push rcx
	push rdx
	push rsi
	push rdi
	push r8
	push r9
	push r10
	push r11
	call acknowledgeInterrupt
	pop r11
	pop r10
	pop r9
	pop r8
	pop rdi
	pop rsi
	pop rdx
	pop rcx
	pop rax
	iretq
