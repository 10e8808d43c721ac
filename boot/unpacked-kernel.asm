; SPDX-License-Identifier: MIT
; A bzImage for machines in which every instruction counts.
;
; Decompressing Debian's own bzImage takes minutes in an instruction-level emulator: XZ is thrifty with
; bytes, not with instructions. This one carries the same vmlinux, byte by byte, as LZ4, which costs about an
; instruction a byte. image/unpacked-kernel.ts assembles this file and appends the kernel to it.
;
; In memory (L = load address, any multiple of 2 MiB; T = L + TARGET, another):
;
;   L        L + PAYLOAD                  T
;   | stub   | segments, compressed |     | text | data | bss |
;
; INIT_SIZE, from L, tells the loader how much room all that takes.
;
; Defined by the caller: RELEASE (string), PAYLOAD_PARAGRAPHS, TARGET, INIT_SIZE, PREFERRED (a good L), ENTRY
; (the entry's offset from T), SEGMENTS (a file of SEGMENT lines).

PAYLOAD         equ 0x8000      ; where the segments start in the protected-mode part
ALIGNMENT       equ 0x200000    ; what a 64-bit kernel's address must be a multiple of
SETUP_SECTORS   equ 7           ; after the boot sector; with it a page, so that alignment in the file is alignment in memory

; ---------------------------------------------------------------------------------------------------
; Real-mode part: nothing runs here; loaders read the setup header (Documentation/arch/x86/boot.rst).

section setup start=0 vstart=0
        bits 16
        times 0x1f1 db 0
        db SETUP_SECTORS        ; setup_sects
        dw 1                    ; root_flags
        dd (PAYLOAD >> 4) + PAYLOAD_PARAGRAPHS  ; syssize
        dw 0                    ; ram_size
        dw 0xffff               ; vid_mode: normal
        dw 0                    ; root_dev
        dw 0xaa55               ; boot_flag
        db 0xeb, header_end - $ - 2     ; jump; its length tells where the header ends
        db "HdrS"
        dw 0x020f               ; version: protocol 2.15
        dd 0                    ; realmode_swtch
        dw 0                    ; start_sys_seg
        dw release - 0x200      ; kernel_version
        db 0                    ; type_of_loader
        db 1                    ; loadflags: LOADED_HIGH
        dw 0                    ; setup_move_size
        dd 0x100000             ; code32_start
        dd 0                    ; ramdisk_image
        dd 0                    ; ramdisk_size
        dd 0                    ; bootsect_kludge
        dw 0                    ; heap_end_ptr
        db 0                    ; ext_loader_ver
        db 0                    ; ext_loader_type
        dd 0                    ; cmd_line_ptr
        dd 0x7fffffff           ; initrd_addr_max
        dd ALIGNMENT            ; kernel_alignment
        db 1                    ; relocatable_kernel
        db 21                   ; min_alignment: 2 MiB
        dw 0x63                 ; xloadflags: XLF_KERNEL_64, XLF_CAN_BE_LOADED_ABOVE_4G, XLF_5LEVEL, XLF_5LEVEL_ENABLED
        dd 2047                 ; cmdline_size
        dd 0                    ; hardware_subarch
        dq 0                    ; hardware_subarch_data
        dd 0                    ; payload_offset: not a compressed kernel
        dd 0                    ; payload_length
        dq 0                    ; setup_data
        dq PREFERRED            ; pref_address
        dd INIT_SIZE            ; init_size
        dd 0                    ; handover_offset
        dd 0                    ; kernel_info_offset
header_end:
release:
        db RELEASE, 0
        times (SETUP_SECTORS + 1) * 512 - ($ - $$) db 0

; ---------------------------------------------------------------------------------------------------
; Protected-mode part: position independent, its offsets count from L.

section stub follows=setup vstart=0
        bits 32
; The 32-bit boot protocol enters here: esi = boot_params, flat segments, no paging.
start32:
        cli
        cld
        lea     esp, [esi + 0x1e8]              ; the scratch field of boot_params: room for one return address
        call    .here
.here:  pop     ebp
        sub     ebp, .here                      ; ebp = L

        ; Identity page tables for 4 GiB: one PML4 entry, four of the PDPT, 4 * 512 pages of 2 MiB.
        lea     edi, [ebp + page_directories]
        mov     eax, 0x83                       ; present, writable, large
        mov     ecx, 4 * 512
.page:  mov     [edi], eax
        mov     dword [edi + 4], 0
        add     eax, 0x200000
        add     edi, 8
        loop    .page
        lea     eax, [ebp + page_directories + 3]
        lea     edi, [ebp + pdpt]
        mov     ecx, 4
.directory:
        mov     [edi], eax
        add     eax, 0x1000
        add     edi, 8
        loop    .directory
        lea     eax, [ebp + pdpt + 3]
        mov     [ebp + pml4], eax

        lea     eax, [ebp + gdt]
        mov     [ebp + gdt_register + 2], eax
        lgdt    [ebp + gdt_register]
        mov     eax, cr4
        or      eax, 1 << 5                     ; PAE
        mov     cr4, eax
        lea     eax, [ebp + pml4]
        mov     cr3, eax
        mov     ecx, 0xc0000080                 ; EFER
        rdmsr
        or      eax, 1 << 8                     ; LME
        wrmsr
        lea     eax, [ebp + start64]
        mov     [ebp + far_start64], eax
        mov     eax, cr0
        or      eax, 0x80000001                 ; PG, PE
        mov     cr0, eax
        jmp     far [ebp + far_start64]

        align   8
far_start64:    dd 0
                dw 0x10
        align   8
gdt_register:   dw 4 * 8 - 1
                dq 0
        align   8
gdt:            dq 0
                dq 0x00cf9a000000ffff           ; 32-bit code
                dq 0x00af9a000000ffff           ; the boot protocol wants code at 0x10, data at 0x18
                dq 0x00cf92000000ffff

        times 0x200 - ($ - $$) db 0
; The 64-bit boot protocol enters here: rsi = boot_params, all of INIT_SIZE and boot_params mapped one to one.
        bits 64
start64:
        cli                                     ; segments stay as they are: the kernel loads its own
        lea     rsp, [rel stack_end]
        cld
        mov     r15, rsi                        ; boot_params
        lea     r13, [rel start32]              ; L
        lea     r14, [r13 + TARGET]             ; T
        lea     rbx, [rel segments]
.segment:
        mov     esi, [rbx]
        test    esi, esi
        jz      .placed
        add     rsi, r13
        mov     edi, [rbx + 4]
        add     rdi, r14
.block:
        lodsd                                   ; a block's length; none ends the segment
        test    eax, eax
        jz      .zeroes
        btr     eax, 31                         ; set if it is not compressed
        jc      .stored
        call    unpack_block
        jmp     .block
.stored:
        mov     ecx, eax
        rep movsb
        jmp     .block
.zeroes:
        mov     ecx, [rbx + 8]
        add     rcx, r14
        sub     rcx, rdi
        xor     eax, eax
        rep stosb
        add     rbx, 12
        jmp     .segment
.placed:
        call    use_five_levels
        mov     rsi, r15
        lea     rax, [r14 + ENTRY]
        jmp     rax

; As Debian's own image does it: 5-level page tables where the processor has them, unless the command line says
; "no5lvl". The kernel goes on with as many levels as it finds. That takes a moment without paging, and so only
; below 4 GiB. Keeps r14 and r15.
use_five_levels:
        mov     eax, 7
        xor     ecx, ecx
        cpuid
        bt      ecx, 16                         ; LA57
        jnc     .done
        mov     rax, cr4
        bt      eax, 12
        jc      .done
        mov     rax, r13
        shr     rax, 32
        jnz     .done
        mov     eax, [r15 + 0xc8]               ; ext_cmd_line_ptr
        shl     rax, 32
        mov     ebx, [r15 + 0x228]              ; cmd_line_ptr
        add     rbx, rax
        jz      .switch
.look:  cmp     byte [rbx], 0
        je      .switch
        cmp     dword [rbx], "no5l"
        jne     .next
        cmp     word [rbx + 4], "vl"
        je      .done
.next:  inc     rbx
        jmp     .look

.switch:
        mov     rax, cr3                        ; the PML4 stays, below a PML5 of one entry
        or      eax, 3
        mov     [rel pml5], rax
        lea     rax, [rel gdt]
        mov     [rel gdt_register + 2], rax
        lgdt    [rel gdt_register]
        mov     eax, 0x18
        mov     ss, eax
        push    r14                             ; 32-bit code does not keep upper halves
        push    r15
        lea     rdi, [rel pml5]
        lea     rsi, [rel .long]
        push    0x08
        lea     rax, [rel .compatible]
        push    rax
        o64 retf
        bits 32
.compatible:
        mov     eax, cr0
        btr     eax, 31                         ; PG
        mov     cr0, eax
        mov     eax, cr4
        bts     eax, 12                         ; LA57
        mov     cr4, eax
        mov     cr3, edi
        mov     eax, cr0
        bts     eax, 31
        mov     cr0, eax
        push    0x10
        push    esi
        retf
        bits 64
.long:  mov     esp, esp
        pop     r15
        pop     r14
.done:  ret

; Unpacks an LZ4 block of eax bytes at rsi to rdi; both are left at their ends. A block is a row of sequences:
;
;   token           literals' length << 4 | match's length - 4
;   length, ...     if the literals' length is 15: more of it, up to and including the first byte that isn't 255
;   literals
;   offset          16 bits: how far back the match is. The block's last sequence ends before this
;   length, ...     likewise, if the match's length is 15 + 4
unpack_block:
        lea     r8, [rsi + rax]
.sequence:
        movzx   edx, byte [rsi]
        inc     rsi
        mov     ecx, edx
        shr     ecx, 4
        and     edx, 15
        cmp     ecx, 15
        jne     .literals
.more_literals:
        movzx   eax, byte [rsi]
        inc     rsi
        add     ecx, eax
        cmp     eax, 255
        je      .more_literals
.literals:
        rep movsb
        cmp     rsi, r8
        jae     .done
        movzx   r9d, word [rsi]
        add     rsi, 2
        cmp     edx, 15
        jne     .match
.more_match:
        movzx   eax, byte [rsi]
        inc     rsi
        add     edx, eax
        cmp     eax, 255
        je      .more_match
.match:
        lea     ecx, [rdx + 4]
        mov     r10, rsi
        mov     rsi, rdi
        sub     rsi, r9
        rep movsb
        mov     rsi, r10
        jmp     .sequence
.done:
        ret

; SEGMENT offset in the payload, where it begins and where it ends, zeroes included, both from T
%macro SEGMENT 3
        dd PAYLOAD + %1, %2, %3
%endmacro
        align   4
segments:
%include SEGMENTS
        dd 0

        align   0x1000
pml5:           times 0x1000 db 0
pml4:           times 0x1000 db 0
pdpt:           times 0x1000 db 0
page_directories: times 0x4000 db 0
stack:          times PAYLOAD - ($ - $$) db 0
stack_end:
