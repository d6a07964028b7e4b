//! The words of signing in and out.

/// Signing in, confirming, choosing an account.
pub(crate) struct SignIn {
    pub(crate) to: &'static str,
    pub(crate) installation: &'static str,
    pub(crate) submit: &'static str,
    pub(crate) forgotten: &'static str,
    pub(crate) forgotten_ask: &'static str,
    pub(crate) forgotten_ask_installation: &'static str,
    pub(crate) new_here: &'static str,
    pub(crate) sign_up: &'static str,
    pub(crate) confirm_title: &'static str,
    pub(crate) confirm_text: &'static str,
    pub(crate) confirm_text_installation: &'static str,
    pub(crate) confirm_submit: &'static str,
    pub(crate) account: &'static str,
    pub(crate) back_to: &'static str,
    pub(crate) another: &'static str,
    pub(crate) choose_title: &'static str,
    pub(crate) choose_text: &'static str,
    pub(crate) choose_text_installation: &'static str,
    pub(crate) weak_title: &'static str,
    pub(crate) weak_text: &'static str,
    pub(crate) weak_next: &'static str,
}

/// Signing out.
pub(crate) struct SignOut {
    pub(crate) title: &'static str,
    pub(crate) text: &'static str,
    pub(crate) here: &'static str,
    pub(crate) here_hint: &'static str,
    pub(crate) everywhere: &'static str,
    pub(crate) everywhere_hint: &'static str,
    pub(crate) stay: &'static str,
    pub(crate) done_title: &'static str,
    pub(crate) done_text: &'static str,
    pub(crate) done_everywhere: &'static str,
    pub(crate) again: &'static str,
}

/// English.
pub(super) const SIGN_IN: SignIn = SignIn {
    to: "Sign in to {}",
    installation: "Sign in",
    submit: "Sign in",
    forgotten: "Forgotten your password?",
    forgotten_ask: "Forgotten your password? Ask whoever runs {} for a new one.",
    forgotten_ask_installation: "Forgotten your password? Ask whoever runs this installation for a new one.",
    new_here: "New here?",
    sign_up: "Create an account",
    confirm_title: "Confirm it’s you",
    confirm_text: "To go on in {}, enter your password once more.",
    confirm_text_installation: "To go on, enter your password once more.",
    confirm_submit: "Confirm",
    account: "Account",
    back_to: "Back to {}",
    another: "Use another account",
    choose_title: "Choose an account",
    choose_text: "To go on to {}.",
    choose_text_installation: "You are signed in here already.",
    weak_title: "A second factor is needed",
    weak_text: "{} asks for more than a password here, such as a code or a passkey. Your account has no second factor.",
    weak_next: "You can go on using the rest. If you need this part, ask whoever runs {}.",
};

/// English.
pub(super) const SIGN_OUT: SignOut = SignOut {
    title: "Sign out?",
    text: "You are signed in as {}.",
    here: "Sign out here",
    here_hint: "In this browser, with every application you opened in it.",
    everywhere: "Sign out everywhere",
    everywhere_hint: "On all your devices. Use this if you lost one, or somebody else may know your password.",
    stay: "Stay signed in",
    done_title: "You are signed out",
    done_text: "In this browser and in every application you had opened with it. On a shared computer, close the browser as well.",
    done_everywhere: "On all your devices and in every application. You can sign in again at any time.",
    again: "Sign in again",
};
