// Words of the options that a subspace's header has as enumerations.
using IptNative.Tuning.Subspaces;

namespace IptNative.Tuning.Ipt;

internal static class SubspaceOptions
{
    private static readonly (string Name, SubspaceActivation Kind)[] Activations =
        [("tanh", SubspaceActivation.Tanh), ("relu", SubspaceActivation.Relu), ("gelu", SubspaceActivation.Gelu), ("identity", SubspaceActivation.Identity)];

    /// <summary>Proj_b's activation by name.</summary>
    /// <exception cref="ArgumentException">There is none of that name.</exception>
    public static SubspaceActivation Activation(string option, string name) => Array.FindIndex(Activations, a => a.Name == name) is >= 0 and int at
        ? Activations[at].Kind
        : throw new ArgumentException($"{option} is \"{name}\", expected one of {string.Join(", ", Activations.Select(a => a.Name))}.");

    /// <summary>What prompts are divided by.</summary>
    public static StandardisationKind Kind(Experiments.PromptStandardisation kind) => kind switch
    {
        Experiments.PromptStandardisation.None => StandardisationKind.None,
        Experiments.PromptStandardisation.Global => StandardisationKind.Global,
        _ => StandardisationKind.Task,
    };
}
