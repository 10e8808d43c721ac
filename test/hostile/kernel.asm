; A kernel that does nothing but attack (kernel.c): its file's header, its way into C at a fixed virtual address,
; its interrupts, and its way to real mode and back.
; SPDX-License-Identifier: MIT
bits 64

extern main, interrupt
extern kernel_size, init_size, bss_start, bss_end
global start, interrupt_stubs, execute, recover, recovered, in_real_mode, idt_register

KERNEL		equ 0xffffffff80000000	; as kernel.ld links it; mapped to wherever the loader put it
SETUP_SECTORS	equ 7
ALIGNMENT	equ 0x200000

; Loaders read the setup header (Linux: Documentation/arch/x86/boot.rst).
section .setup progbits alloc noexec
	times 0x1f1 db 0
	db SETUP_SECTORS
	dw 1				; root_flags
	dd kernel_size			; syssize, in paragraphs; nobody minds
	dw 0, 0xffff, 0
	dw 0xaa55
	db 0xeb, header_end - $ - 2
	db "HdrS"
	dw 0x020f
	dd 0
	dw 0, 0
	db 0
	db 1				; loadflags: LOADED_HIGH
	dw 0
	dd 0x100000
	dd 0, 0, 0
	dw 0
	db 0, 0
	dd 0				; cmd_line_ptr
	dd 0x7fffffff
	dd ALIGNMENT
	db 1				; relocatable_kernel
	db 21
	dw 3				; xloadflags: 64-bit entry, above 4 GiB
	dd 2047				; cmdline_size
	dd 0
	dq 0
	dd 0, 0
	dq 0
	dq 0x1000000			; pref_address
	dd init_size
	dd 0, 0
header_end:
	times (SETUP_SECTORS + 1) * 512 - ($ - $$) db 0

section .start progbits alloc exec
start:
	times 0x200 - ($ - $$) hlt	; no 32-bit entry
; The 64-bit entry: all of init_size is mapped one to one. Addresses taken with rel are physical here.
	cli
	cld
	lea rbx, [rel start]
	lea rdi, [rel bss_start]
	lea rcx, [rel bss_end]
	sub rcx, rdi
	xor eax, eax
	rep stosb
	lea rdi, [rel low]		; the first 512 GiB, one to one
	mov eax, 0x83
.page:	stosq
	add rax, 0x40000000
	inc ecx
	cmp ecx, 512
	jb .page
	lea rdi, [rel root]
	lea rax, [rel low]
	or rax, 3
	mov [rdi], rax
	lea rax, [rel high]
	or rax, 3
	mov [rdi + 511 * 8], rax
	lea rdx, [rel directory]
	or rdx, 3
	mov [rax - 3 + 510 * 8], rdx
	lea rax, [rbx + 0x83]
	mov [rdx - 3], rax
	add rax, ALIGNMENT
	mov [rdx - 3 + 8], rax
	mov cr3, rdi
	mov [rel root_at], edi
	mov rsp, stack_end
	lgdt [rel gdt_register]
	mov eax, 0x18
	mov ds, eax
	mov es, eax
	mov ss, eax
	push 0x10
	mov rax, .high
	push rax
	o64 retf
.high:	mov rdi, rbx			; where it was loaded
	call main
.hang:	hlt
	jmp .hang

section .text
; 256 stubs of 16 bytes.
	align 16
interrupt_stubs:
%assign vector 0
%rep 256
	align 16
%if vector = 8 || (vector >= 10 && vector <= 14) || vector = 17 || vector = 21
%else
	push 0
%endif
	push vector
	jmp every_interrupt
%assign vector vector + 1
%endrep

; struct frame of kernel.c.
every_interrupt:
	push r15
	push r14
	push r13
	push r12
	push r11
	push r10
	push r9
	push r8
	push rdi
	push rsi
	push rbp
	push rbx
	push rdx
	push rcx
	push rax
	mov rdi, rsp
	call interrupt
	pop rax
	pop rcx
	pop rdx
	pop rbx
	pop rbp
	pop rsi
	pop rdi
	pop r8
	pop r9
	pop r10
	pop r11
	pop r12
	pop r13
	pop r14
	pop r15
	add rsp, 16
	iretq

; u64 execute(u64 address): calls it; returns 0, or the vector of a fault that comes of it. Its registers and its
; stack are lost: recover brings back ours.
execute:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	mov [rel recover], rsp
	call rdi
	xor eax, eax
recovered:
	mov rsp, [rel recover]
	mov qword [rel recover], 0
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret

; ---- real mode --------------------------------------------------------------------
; u64 in_real_mode(u32 msr): writes an MSR in real mode; returns 0, or the vector of the fault that real mode's own
; interrupt table is told of (13).

REAL		equ 0x8000		; where the 16-bit part runs: below 1 MiB

in_real_mode:
	push rbx
	push rbp
	push r12
	push r13
	push r14
	push r15
	mov ebx, edi			; survives below
	mov [rel saved_stack], rsp
	mov rsi, real_start
	mov edi, REAL
	mov ecx, real_end - real_start
	rep movsb
	mov dword [13 * 4], REAL + (real_fault - real_start)	; its interrupt table: segment 0
	lea rax, [rel root_at]
	mov eax, [rax]
	mov [REAL + (real_root - real_start)], eax
	cli
	lgdt [REAL + (real_gdt - real_start)]	; by an address that is there without paging
	push 0x20			; 32-bit code
	push REAL
	o64 retf

real_start:
bits 32
	mov eax, cr0
	and eax, 0x7fffffff
	mov cr0, eax			; compatibility mode ends: 32 bits without paging
	mov eax, 0x30
	mov ds, eax
	mov es, eax
	mov ss, eax
	lidt [REAL + (real_idt - real_start)]
	jmp 0x28:REAL + (.sixteen - real_start)
bits 16
.sixteen:
	mov eax, cr0
	and al, 0xfe
	mov cr0, eax
	jmp 0:REAL + (.real - real_start)
.real:
	xor ax, ax
	mov ds, ax
	mov ss, ax
	mov sp, REAL
	mov ecx, ebx
	xor edx, edx
	xor eax, eax
	xor ebx, ebx
	wrmsr
	jmp short real_back
real_fault:
	mov ebx, 13
real_back:				; and all the way up again
	mov eax, [REAL + (real_root - real_start)]
	mov cr3, eax
	mov eax, cr0
	or eax, 0x80000001		; EFER.LME and CR4.PAE are still set
	mov cr0, eax
	jmp dword 0x10:REAL + (.long - real_start)
bits 64
.long:
	mov rax, real_done
	jmp rax
	align 8
real_idt:	dw 0x3ff
		dd 0
real_gdt:	dw gdt_end - gdt - 1
		dq REAL + (gdt - real_start)
real_root:	dd 0
	align 8
gdt:		dq 0, 0
		dq 0x00af9a000000ffff	; 0x10: 64-bit code
		dq 0x00cf92000000ffff	; 0x18: data
		dq 0x00cf9a000000ffff	; 0x20: 32-bit code
		dq 0x00009a000000ffff	; 0x28: 16-bit code
		dq 0x000092000000ffff	; 0x30: 16-bit data
gdt_end:
real_end:

real_done:
	mov rsp, [rel saved_stack]
	lgdt [rel gdt_register]
	mov eax, 0x18
	mov ds, eax
	mov es, eax
	mov ss, eax
	lidt [rel idt_register]
	sti
	mov eax, ebx
	pop r15
	pop r14
	pop r13
	pop r12
	pop rbp
	pop rbx
	ret

section .data
	align 8
gdt_register:
	dw gdt_end - gdt - 1
	dq gdt
idt_register:
	dw 256 * 16 - 1
	dq 0

section .bss nobits alloc write
	alignb 4096
root:		resb 4096
low:		resb 4096
high:		resb 4096
directory:	resb 4096
stack:		resb 16384
stack_end:
recover:	resq 1
saved_stack:	resq 1
root_at:	resd 1
