# Calls Kbuild for one kernel; for the Makefiles of this module and of the tests'.
KRELEASE ?= $(shell uname -r)
KDIR ?= /lib/modules/$(KRELEASE)/build
# Warnings are errors where we build: the tree has none. Not with DKMS: on a later
# kernel a new warning is no reason to be without the module.
STRICT ?=
# O is ours: the kernel's make has another meaning for it.
MAKEOVERRIDES =
# $(call kbuild,FOLDER,VARIABLES)
kbuild = $(MAKE) -C $(KDIR) M=$(abspath $(1)) $(if $(STRICT),W=1 KCFLAGS=-Werror) $(2)
# sparse, on every file anew
sparse = out=$$($(call kbuild,$(1),$(2)) C=2 CF=-D__CHECK_ENDIAN__ modules 2>&1) || \
	{ echo "$$out"; exit 1; }; \
	if echo "$$out" | grep -E '(warning|error):'; then exit 1; fi
