// `--set prompt.length=20` over the tree of a file. Deliberately not: which names exist; the reader finds an unknown one wherever it was written.
using System.Globalization;
using System.Text.Json;

namespace IptNative.Tuning.Runs.Options;

/// <summary>Puts values from the command line into a configuration.</summary>
internal static class OptionOverrides
{
    /// <summary>Applies one override.</summary>
    /// <param name="root">The file's object.</param>
    /// <param name="argument">Dotted path, equals sign, value; a list's items are numbered from 0, '*' is all of them.</param>
    /// <param name="folder">What relative paths in it start from: the current folder.</param>
    /// <exception cref="ArgumentException">It has no such form, or leads through a value that is no section.</exception>
    public static void Apply(OptionNode root, string argument, string folder)
    {
        int equals = argument.IndexOf('=', StringComparison.Ordinal);
        if (equals < 1)
            throw new ArgumentException($"--set {argument}: found no name and equals sign, expected key=value, for example --set prompt.length=20.");
        string place = $"--set {argument}";
        string[] path = argument[..equals].Trim().Split('.');
        if (path.Any(string.IsNullOrWhiteSpace))
            throw new ArgumentException($"{place}: the name has an empty part, expected a dotted path, for example --set prompt.length=20.");
        Put(root, path, 0, OptionNode.FromArgument(argument[(equals + 1)..], place, folder), place);
    }

    private static void Put(OptionNode node, string[] path, int depth, OptionNode value, string place)
    {
        string name = path[depth];
        bool last = depth == path.Length - 1;
        if (node.Kind == JsonTokenType.StartObject)
        {
            if (last)
            {
                node.SetMember(name, value);
                return;
            }
            if (node.Member(name) is not { Kind: not JsonTokenType.Null } child)
                node.SetMember(name, child = value.EmptyObject());
            Put(child, path, depth + 1, value, place);
        }
        else if (node.Kind == JsonTokenType.StartArray)
        {
            int first = 0, end = node.Items.Count;
            if (name != "*")
            {
                if (!int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out first) || first >= end)
                    throw new ArgumentException($"{place}: '{string.Join('.', path[..depth])}' is a list of {end}; found item '{name}', expected {(end == 0 ? "none" : $"0 to {end - 1}, or * for all")}.");
                end = first + 1;
            }
            for (int i = first; i < end; i++)
            {
                if (last)
                    node.Items[i] = value;
                else
                    Put(node.Items[i], path, depth + 1, value, place);
            }
        }
        else
        {
            throw new ArgumentException($"{place}: '{string.Join('.', path[..depth])}' is {node.Describe()} ({node.Place}), expected a section that can hold '{name}'.");
        }
    }
}
