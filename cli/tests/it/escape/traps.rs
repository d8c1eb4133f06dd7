//! What a work tree can make git run.
//!
//! In the box that is no escape: git runs in the tools' layer and can do there what the other attempts can. The question
//! is whether it runs outside. So the traps write to a file of the host, nothing in the box springs them, and they lie
//! there while the work is committed, pushed, fetched and shown by everything that handles it.

super::table::attempts! { "traps";
    trap_hooks {
        tries: "leaves hooks of every name", bare: Stopped,
        stopped_by: "git runs in the tools' layer, with hooks off; the gateway never runs git in the work tree", says: "planted",
        run: r##"
program = trap("")
hooks = "applypatch-msg commit-msg fsmonitor-watchman post-checkout post-commit post-index-change post-merge post-rewrite pre-auto-gc pre-commit pre-merge-commit pre-push pre-rebase prepare-commit-msg push-to-checkout reference-transaction sendemail-validate update pre-receive post-receive post-update proc-receive"
os.makedirs(".git/hooks", exist_ok=True)
for name in hooks.split():
    os.symlink(program, f".git/hooks/{name}")
planted("hooks")"##,
    }
    trap_hooks_path {
        tries: "names another folder of hooks in core.hooksPath", bare: Stopped,
        stopped_by: "git's hardening, in the tools' layer", says: "planted",
        run: r##"
program = trap("[core]\n\thooksPath = /tmp/hooks\n")
os.makedirs("/tmp/hooks", exist_ok=True)
for name in ("pre-commit", "post-commit", "pre-push", "reference-transaction", "post-index-change"):
    os.symlink(program, f"/tmp/hooks/{name}")
planted("a folder of hooks")"##,
    }
    trap_fsmonitor {
        tries: "names a program as core.fsmonitor", bare: Stopped,
        stopped_by: "git's hardening, in the tools' layer", says: "planted",
        run: r##"
trap("[core]\n\tfsmonitor = {trap}\n")
planted("fsmonitor")"##,
    }
    trap_filters {
        tries: "has attributes run clean, smudge and process filters", bare: Works,
        stopped_by: "`git add` runs filters, as LFS needs it: in the tools' layer; mirrors have no attributes and no work tree", says: "planted",
        run: r##"
trap("[filter \"trap\"]\n\tclean = {trap}\n\tsmudge = {trap}\n[filter \"long\"]\n\tprocess = {trap}\n")
with open(".gitattributes", "a") as file:
    file.write("*.trapped filter=trap diff=trap merge=trap\n*.long filter=long\n")
for name in ("a.trapped", "a.long"):
    with open(name, "w") as file:
        file.write("trapped")
planted("filters")"##,
    }
    trap_diff_programs {
        tries: "has git run textconv, an external diff, a merge driver, a pager and an editor", bare: Stopped,
        stopped_by: "git's hardening; what is shown to people is made from the objects alone", says: "planted",
        run: r##"
trap("[diff \"trap\"]\n\ttextconv = {trap}\n\tcommand = {trap}\n[diff]\n\texternal = {trap}\n[merge \"trap\"]\n\tdriver = {trap}\n[core]\n\tpager = {trap}\n\teditor = {trap}\n[pager]\n\tdiff = {trap}\n\tlog = {trap}\n[interactive]\n\tdiffFilter = {trap}\n")
planted("diff programs")"##,
    }
    trap_transports {
        tries: "has git run core.sshCommand, core.gitProxy, askpass, credential helpers, upload-pack and remote helpers", bare: Stopped,
        stopped_by: "git's hardening: http only, no helpers", says: "planted",
        run: r##"
trap("[core]\n\tsshCommand = {trap}\n\tgitProxy = {trap}\n\taskPass = {trap}\n\talternateRefsCommand = {trap}\n[credential]\n\thelper = !{trap}\n[uploadpack]\n\tpackObjectsHook = {trap}\n[remote \"origin\"]\n\tuploadpack = {trap}\n\treceivepack = {trap}\n")
planted("transports")"##,
    }
    trap_another_remote {
        tries: "sends the push elsewhere: url.insteadOf, pushInsteadOf, a second URL, an ext:: remote", bare: Stopped,
        stopped_by: "what counts is what the gateway was sent; the box can reach nothing else", says: "planted",
        run: r##"
trap(f"[remote \"other\"]\n\turl = ext::{{trap}}\n[url \"ext::{{trap}} \"]\n\tinsteadOf = https://\n")
planted("remotes")"##,
    }
    trap_signing_and_aliases {
        tries: "has git run gpg.program, aliases, and configuration from included files", bare: Stopped,
        stopped_by: "git's hardening, in the tools' layer", says: "planted",
        run: r##"
program = trap("[include]\n\tpath = more\n")
with open(".git/more", "w") as file:
    file.write(f"[gpg]\n\tprogram = {program}\n[commit]\n\tgpgSign = true\n[push]\n\tgpgSign = true\n[alias]\n\tcommit = !{program}\n\tpush = !{program}\n")
planted("signing")"##,
    }
    trap_in_the_pushed_tree {
        tries: "leaves files in the work that tools of whoever reads it obey: .gitattributes, .gitconfig, .mailmap links, .lfsconfig", bare: Stopped,
        stopped_by: "the gateway has no work tree and reads no attributes of what was pushed", says: "planted",
        run: r##"
program = trap("")
for name, text in ((".gitconfig", f"[core]\n\tfsmonitor = {program}\n"), (".lfsconfig", f"[lfs]\n\turl = file:///{program}\n"), (".gitattributes", "* export-subst\n")):
    with open(name, "a") as file:
        file.write(text)
planted("files")"##,
    }
}
