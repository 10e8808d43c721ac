; What the VMM's IDT points to, but NMIs (nmi.asm of the back end). The VMM runs
; with interrupts off, so there are only the interrupts it takes on purpose while
; it empties a local APIC, and exceptions, which are bugs.
; SPDX-License-Identifier: MIT
bits 64
default rel

extern onException
global exceptionStubs, interruptStub

RFLAGS_IF	equ 0x200

section .text
exceptionStubs:
	lea rax, [exception_stubs]
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

interrupt:				; who lets it in acknowledges it
	and dword [rsp + 16], ~RFLAGS_IF	; one at a time
	iretq
