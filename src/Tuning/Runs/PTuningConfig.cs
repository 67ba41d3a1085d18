// The section "p_tuning" of a run file: the network that makes the prompts. Deliberately without virtual tokens and template: those are the prompt's.
using IptNative.Tuning.PTuning;
using IptNative.Tuning.Runs.Options;

namespace IptNative.Tuning.Runs;

/// <summary>Options of <see cref="TuningMethod.PTuning"/>.</summary>
public sealed record PTuningConfig
{
    private static readonly (string, PromptEncoderKind)[] Kinds = [("lstm", PromptEncoderKind.Lstm), ("mlp", PromptEncoderKind.Mlp)];

    /// <summary>LSTM and MLP, or MLP.</summary>
    public PromptEncoderKind Encoder { get; init; } = PromptEncoderKind.Lstm;

    /// <summary>Width of the network; 0 takes d_model.</summary>
    public int Hidden { get; init; }

    /// <summary>LSTM layers.</summary>
    public int Layers { get; init; } = 2;

    internal PTuningConfig Visit(OptionVisitor v) => new()
    {
        Encoder = v.Choice("encoder", Encoder, Kinds, "What makes the prompt: a bidirectional LSTM and an MLP, or an MLP of three layers."),
        Hidden = v.Int("hidden", Hidden, 0, "Width of the network; 0 takes d_model."),
        Layers = v.Int("layers", Layers, 1, "LSTM layers."),
    };
}
