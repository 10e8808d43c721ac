; NMIs in the VMM on AMD-V. They come only where the global interrupt flag is set
; for a moment, and are nothing but a reason to look at the mailbox.
; SPDX-License-Identifier: MIT
bits 64
default rel

global nmiStub, waitForNmi

section .text
nmiStub:
	lea rax, [nmi]
	ret

; void waitForNmi(void), global interrupt flag clear. One that has arrived since
; the caller looked at the mailbox comes right behind STGI: its handler returns
; behind HLT then.
waitForNmi:
	cli
	stgi
wait_window:
	hlt
wait_window_end:
	clgi
	sti
	ret

nmi:					; on the VMM's stack: 0 RAX  8 RIP
	push rax
	lea rax, [wait_window]
	cmp [rsp + 8], rax
	jne .done
	lea rax, [wait_window_end]
	mov [rsp + 8], rax
.done:
	pop rax
	iretq
