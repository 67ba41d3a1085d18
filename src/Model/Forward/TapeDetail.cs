// How much of a forward pass is kept for the backward pass.
namespace IptNative.Model.Forward;

/// <summary>Which inputs of the residual stream a forward pass keeps. What is not kept is computed again from the one before it.</summary>
public enum TapeDetail
{
    /// <summary>Nothing: for evaluation and generation.</summary>
    None,

    /// <summary>Every block's input, and the final norm's.</summary>
    Blocks,

    /// <summary>Every sublayer's input (self attention, cross attention, feed forward), and the final norm's.</summary>
    Sublayers,

    /// <summary>As <see cref="Sublayers"/>, and every projection inside a sublayer: nothing but norms and attention probabilities is computed again.</summary>
    Full,
}
